"""As the fast targets, but every fiftieth answer has a wrong last byte: whoever checks replies must notice.

python -m benchmarks.targets.lying echo|websocket_echo
"""

import sys

from benchmarks.targets.fast import ANSWERS, Peer, serve

EVERY = 50


class Liar:
    def __init__(self, kind: str) -> None:
        self._answer = ANSWERS[kind]
        self._answers = 0

    def __call__(self, peer: Peer, data: bytes) -> bytes:
        was_open = peer.is_open
        reply = self._answer(peer, data)
        if self._answer is ANSWERS["websocket_echo"] and not was_open:
            return reply  # the handshake
        self._answers += 1
        if reply and self._answers % EVERY == 0:
            return reply[:-1] + (b"!" if reply[-1:] != b"!" else b"?")
        return reply


if __name__ == "__main__":
    serve(Liar(sys.argv[1]))
