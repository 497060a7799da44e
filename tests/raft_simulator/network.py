"""A network that drops, delays, duplicates and reorders, and whose links can be cut in one direction."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.raft_simulator.profile import Profile

Schedule = Callable[[int, Callable[[], None]], None]


class SimNetwork:
    """Carries messages between places: nodes are 1..n, clients have negative numbers."""

    def __init__(self, profile: Profile, rng: Random, schedule: Schedule) -> None:
        self._profile = profile
        self._rng = rng
        self._schedule = schedule
        self.cut: set[tuple[int, int]] = set()
        self.perfect = False
        self.messages = 0
        self.sizes: list[int] = []

    def send(self, source: int, target: int, deliver: Callable[[Any], None], message: Any) -> None:
        self.messages += 1
        rng, profile = self._rng, self._profile
        if (source, target) in self.cut:
            return
        copies = 1
        if not self.perfect:
            if profile.drop and rng.random() < profile.drop:
                return
            if profile.duplicate and rng.random() < profile.duplicate:
                copies = 2
        for _ in range(copies):
            self._schedule(self._delay_us(), lambda: self._arrive(source, target, deliver, message))

    def _arrive(self, source: int, target: int, deliver: Callable[[Any], None], message: Any) -> None:
        # A link that was cut in the meantime loses what is on its way.
        if (source, target) not in self.cut:
            deliver(message)

    def _delay_us(self) -> int:
        profile, rng = self._profile, self._rng
        if profile.late and not self.perfect and rng.random() < profile.late:
            return rng.randint(0, profile.late_us)
        shortest, longest = profile.delay_us
        return shortest + int(rng.random() * (longest - shortest))

    def isolate(self, node: int, others: list[int]) -> None:
        for other in others:
            self.cut |= {(node, other), (other, node)}

    def split(self, left: list[int], right: list[int]) -> None:
        for node in left:
            self.isolate(node, right)

    def heal(self) -> None:
        self.cut.clear()
