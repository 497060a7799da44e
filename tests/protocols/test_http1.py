"""HTTP responses as a gateway writes them, cut everywhere, and as nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.frames import TRUNCATED
from protocols.http1 import (
    MALFORMED,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    TOO_LARGE,
    HttpResponse,
    ResponseDecoder,
    encode_post,
)
from tests.protocols.streams import assert_decodes_however_it_is_cut, assert_survives, cut, cut_places

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{ } "
# As etcd 3.4 answers a bad request: chunks, and a trailer behind them.
CHUNKED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nTrailer: Grpc-Trailer-Content-Type\r\n"
    b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2;x=y\r\n1}\r\n0\r\n'
    b"Grpc-Trailer-Content-Type: application/grpc\r\n\r\n"
)
EMPTY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"


def test_a_request_is_these_bytes() -> None:
    assert encode_post("/v3/kv/range", b"{}", "127.0.0.1:2379") == (
        b"POST /v3/kv/range HTTP/1.1\r\nHost: 127.0.0.1:2379\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )


def test_responses_decode_however_they_are_cut() -> None:
    expected = [HttpResponse(200, b"{ } "), HttpResponse(400, b'{"a":1}'), HttpResponse(503, b"", True)]
    assert_decodes_however_it_is_cut(ResponseDecoder, PLAIN + CHUNKED + EMPTY, expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", MALFORMED),
        (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", MALFORMED),  # ends with the connection, if ever
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\n folded: x\r\nContent-Length: 0\r\n\r\n", MALFORMED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES, TOO_LARGE),
    ],
)
def test_what_is_no_response_sets_the_error_and_loses_nothing_before_it(data: bytes, reason: str) -> None:
    decoder = ResponseDecoder()
    assert decoder.receive_data(PLAIN + data) == [HttpResponse(200, b"{ } ")]
    assert decoder.error is not None
    assert decoder.error.reason == reason
    assert decoder.receive_data(PLAIN) == []


def test_an_end_inside_a_response_is_told_and_one_between_two_is_not() -> None:
    torn, whole = ResponseDecoder(), ResponseDecoder()
    torn.receive_data(PLAIN[:-1])
    torn.receive_eof()
    assert torn.error is not None
    assert torn.error.reason == TRUNCATED
    whole.receive_data(PLAIN)
    whole.receive_eof()
    assert whole.error is None


@given(st.binary(max_size=400) | st.binary(max_size=60).map(lambda tail: CHUNKED[:90] + tail), cut_places)
def test_garbage_never_raises(data: bytes, places: list[int]) -> None:
    assert_survives(ResponseDecoder(), cut(data, places), MAX_BODY_BYTES + MAX_HEAD_BYTES)
