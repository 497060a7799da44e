"""The contract of every stream decoder, as functions that each decoder's tests call."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Protocol

from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError


class StreamDecoder(Protocol):
    error: RemoteProtocolError | None

    def receive_data(self, data: bytes) -> list[Any]: ...

    def receive_eof(self) -> Any: ...


def feed(decoder: StreamDecoder, chunks: Iterable[bytes]) -> list[Any]:
    """Everything that the decoder makes of the chunks, in order."""
    return [message for chunk in chunks for message in decoder.receive_data(chunk)]


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at each place (taken modulo its length)."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(ends)]


cut_places = st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=20)


def assert_decodes_however_it_is_cut(
    new: Callable[[], StreamDecoder], data: bytes, messages: list[Any], reason: str | None = None
) -> None:
    """All at once, byte by byte, and split in two at every byte: the same messages and the same error."""
    ways = [[data], list(bytewise(data)), *([data[:i], data[i:]] for i in range(1, len(data)))]
    for chunks in ways:
        decoder = new()
        assert feed(decoder, chunks) == messages
        assert (decoder.error.reason if decoder.error else None) == reason
        if reason is not None:
            assert decoder.receive_data(data) == [], "after an error nothing more is decoded"


def assert_survives(decoder: StreamDecoder, chunks: Iterable[bytes], most_kept_bytes: int) -> None:
    """Garbage: no exception at all, bounded memory, an error that never changes once it is set."""
    first_error = None
    for chunk in chunks:
        messages = decoder.receive_data(chunk)
        assert first_error is None or (messages == [] and decoder.error is first_error)
        first_error = decoder.error
        assert decoder.pending_bytes <= most_kept_bytes  # type: ignore[attr-defined]
    decoder.receive_eof()
    if first_error is not None:
        assert decoder.error is first_error
        assert isinstance(first_error, RemoteProtocolError)
        assert first_error.reason
