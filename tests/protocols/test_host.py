"""The notation of `--host`: what names a target, and one clear sentence for what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.host import BadHost, Host, format_address, parse_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("tcp://127.0.0.1:9000", Host("tcp", [("127.0.0.1", 9000)], "")),
        ("TCP://LocalHost:9000/", Host("tcp", [("localhost", 9000)], "")),
        (" tcp://[::1]:9000 ", Host("tcp", [("::1", 9000)], "")),
        ("f00d://device:9000", Host("tcp", [("device", 9000)], "")),
        ("ws://127.0.0.1:8080", Host("ws", [("127.0.0.1", 8080)], "")),
        ("ws://example.org", Host("ws", [("example.org", 80)], "")),
        ("ws://example.org?room=1", Host("ws", [("example.org", 80)], "/?room=1")),
        ("wss://example.org/chat?room=1,2", Host("wss", [("example.org", 443)], "/chat?room=1,2")),
        ("kv://n1:9001", Host("kv", [("n1", 9001)], "")),
        ("kv://n1:9001,[::1]:9002,n3:9003", Host("kv", [("n1", 9001), ("::1", 9002), ("n3", 9003)], "")),
    ],
)
def test_a_host_names_scheme_addresses_and_path(text: str, host: Host):
    assert parse_host(text) == host
    assert parse_host(host.url) == host


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must start with one of tcp://, f00d://, ws://, wss://, kv://"),
        ("127.0.0.1:9000", "must start with"),
        ("http://127.0.0.1:9000", "must start with"),
        ("tcp:127.0.0.1:9000", "must start with"),
        ("tcp://", "lacks an address"),
        ("tcp://:9000", "lacks a host name"),
        ("tcp://h", "lacks a port"),
        ("ws://h:", "lacks a port"),
        ("tcp://h:0", "has port 0"),
        ("tcp://h:65536", "malformed address or port"),
        ("tcp://h:port", "malformed address or port"),
        ("tcp://h:-1", "malformed address or port"),
        ("tcp://[::1", "malformed address or port"),
        ("tcp://::1:9000", "malformed address or port"),
        ("tcp://h:1/path", "has a path"),
        ("tcp://a:1,b:2", "which only kv:// and etcd:// take"),
        ("tcp://a b:1", "contains a space"),
        ("tcp://a\x00:1", "contains a space or control character"),
        ("tcp://a..b:1", "has nothing between two dots of the host name in 'a..b:1'"),
        ("ws://.a/", "has nothing between two dots of the host name"),
        (f"tcp://{'a' * 64}:1", "a part that is longer than 63 bytes"),
        (f"kv://a:1,{'b' * 64}.c:1", "a part that is longer than 63 bytes"),
        (f"tcp://{'é' * 63}:1", "a part that is longer than 63 bytes"),
        ("ws://h/#part", "fragment"),
        ("kv://", "lacks an address"),
        ("kv://a:1,", "lacks an address"),
        ("kv://a:1,a:1", "twice"),
        ("kv://a:1,b", "lacks a port in 'b'"),
        ("kv://" + ",".join(f"h:{port}" for port in range(1, 66)), "more than 64"),
    ],
)
def test_what_names_no_target_is_refused_in_one_sentence_with_an_example(text: str, problem: str):
    with pytest.raises(BadHost) as caught:
        parse_host(text)
    sentence = str(caught.value)
    assert problem in sentence
    assert "\n" not in sentence
    assert sentence.count("://") >= 2 or not text, "it shows what was given and an example"


def test_it_is_both_our_own_error_and_a_value_error():
    assert issubclass(BadHost, LocalProtocolError)
    assert issubclass(BadHost, ValueError)


@pytest.mark.parametrize("text", ["tcp://user:secret@h:9000", "ws://user:secret@h/ x", "http://user:secret@h"])
def test_a_password_is_not_repeated(text: str):
    with pytest.raises(BadHost) as caught:
        parse_host(text)
    assert "secret" not in str(caught.value)
    assert "***@h" in str(caught.value)


def test_an_address_is_written_with_brackets_where_needed():
    assert format_address("127.0.0.1", 9000) == "127.0.0.1:9000"
    assert format_address("::1", 9000) == "[::1]:9000"


@given(st.text() | st.text("tcpwskvf0d:/[]@,.?#19 ", max_size=40).map(lambda rest: "kv://" + rest))
def test_garbage_is_a_host_or_a_bad_host(text: str):
    try:
        host = parse_host(text)
    except BadHost:
        return
    assert host.addresses
    assert all(name and 0 < port < 65_536 for name, port in host.addresses)
