"""The least that answers HTTP: for the tools that speak nothing else.

    python -m benchmarks.targets.http

Requests are cut at the empty line (they have no body), and each is answered with 64 bytes.
"""

from benchmarks.targets.fast import Peer, serve

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n" + b"x" * 64


def http(peer: Peer, data: bytes) -> bytes:
    *requests, peer.rest = (peer.rest + data).split(b"\r\n\r\n")
    return _ANSWER * len(requests)


if __name__ == "__main__":
    serve(http)
