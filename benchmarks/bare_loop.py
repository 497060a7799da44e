"""The least that an open load generator can be: due times, bare sockets, and a loop that never sleeps.

It checks nothing, counts nothing and has no users. What it measures beyond the truth is the machine's doing, and nobody
who runs there can measure less (`benchmarks.accuracy`).
"""

import select
import socket
import struct
import time
from collections import deque

CONNECTIONS = 20
PAYLOAD_BYTES = 64
FRAME = struct.pack(">I", PAYLOAD_BYTES) + bytes(PAYLOAD_BYTES)
RECV_BYTES = 65_536
NS_PER_S = 1_000_000_000
LEAD_NS = NS_PER_S // 2


class Lane:
    """One connection and what is under way on it."""

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.due_ns: deque[int] = deque()
        self.part_bytes = 0

    def read(self) -> list[int]:
        """The due times of the requests that were answered now."""
        self.part_bytes += len(self.sock.recv(RECV_BYTES))
        answered, self.part_bytes = divmod(self.part_bytes, len(FRAME))
        return [self.due_ns.popleft() for _ in range(answered)]


def response_times_ns(host: str, port: int, rate_per_s: int, seconds: float) -> list[int]:
    """Of requests at a constant rate to a server that answers those of a connection in their order."""
    lanes = [Lane(host, port) for _ in range(CONNECTIONS)]
    by_fd = {lane.sock.fileno(): lane for lane in lanes}
    poll = select.epoll()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    count, issued = round(rate_per_s * seconds), 0
    step_ns = NS_PER_S // rate_per_s
    begin_ns = time.monotonic_ns() + LEAD_NS
    found: list[int] = []
    while len(found) < count:
        while issued < count and time.monotonic_ns() >= (due_ns := begin_ns + issued * step_ns):
            lane = lanes[issued % CONNECTIONS]
            lane.due_ns.append(due_ns)
            lane.sock.send(FRAME)
            issued += 1
        for fd, _ in poll.poll(0):
            answered = by_fd[fd].read()
            now_ns = time.monotonic_ns()
            found += [now_ns - due_ns for due_ns in answered]
    for lane in lanes:
        lane.sock.close()
    poll.close()
    return found
