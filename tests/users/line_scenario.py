"""A protocol of one's own, as docs and `users.framed` show it: numbered lines, answered in capitals.

7 hello     ->      7 HELLO
"""

from locust import task

from swarmproof.fleet import extension  # noqa: F401
from users.framed import FramedUser, Reply


class LineCodec:
    """`<id> <text>` and a newline, both ways."""

    def __init__(self) -> None:
        self._rest = b""

    def encode(self, request_id: int, payload: bytes) -> bytes:
        return b"%d %s\n" % (request_id, payload)

    def receive_data(self, data: bytes) -> list[Reply]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        pairs = [line.split(b" ", 1) for line in lines]
        return [Reply(int(number), text) for number, text in pairs]


class LineUser(FramedUser):
    codec = LineCodec
    protocol_name = "line"

    def check(self, sent: bytes, received: bytes) -> str:
        return "" if received == sent.upper() else "not in capitals"

    @task
    def ask(self) -> None:
        self.client.request(b"hello", name="capitals")
