"""The master's roll of its workers: who is lost, who came back, and whose records are safe.

Locust calls a worker missing that has sent no heartbeat for three seconds: dead, hanging, or cut off. Only the first
is gone for good, so a worker that speaks again is struck off the list: what it has to report follows.
"""

import logging
import time
from typing import Any, Final

import gevent
from locust.runners import STATE_RUNNING, MasterRunner

logger = logging.getLogger(__name__)

#: A worker that came back tells its users within its next report (3 s); then the balance can be seen.
BALANCE_WITHIN_S: Final = 10.0


class Roll:
    """One run's. In a process without workers it stays empty."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner if isinstance(runner, MasterRunner) else None
        self.lost: set[str] = set()
        self.returned: set[str] = set()
        self._on_disk: set[str] = set()
        self._balance_until = 0.0

    def start(self) -> None:
        self.lost, self.returned, self._on_disk = set(), set(), set()
        self._balance_until = 0.0

    def has_files_here(self, worker: str) -> None:
        """This worker writes into the run directory itself: what it wrote survives it."""
        self._on_disk.add(worker)

    def look(self) -> None:
        """Once a second: call the roll."""
        if self._runner is None:
            return
        clients = self._runner.clients
        for client in clients.missing:
            if client.id not in self.lost:
                self.lost.add(client.id)
                logger.warning(
                    "worker %s is lost; what it had not yet reported is missing from Locust's table", client.id
                )
        for client in clients.ready + clients.spawning + clients.running:
            if client.id in self.lost:
                self.lost.remove(client.id)
                self.returned.add(client.id)
                self._balance_until = time.monotonic() + BALANCE_WITHIN_S
                logger.warning("worker %s is back; what it had to report comes now", client.id)
        self._balance()

    def _balance(self) -> None:
        """One who comes back while its users are being given to others keeps them too: Locust overlooks that."""
        runner = self._runner
        if runner is None or time.monotonic() > self._balance_until or not runner.rebalancing_enabled():
            return
        is_settled = runner.state == STATE_RUNNING and runner.spawning_completed
        if is_settled and runner.user_count > runner.target_user_count:
            self._balance_until = 0.0
            logger.info("%d users run where %d should: sharing anew", runner.user_count, runner.target_user_count)
            gevent.spawn(runner.start, runner.target_user_count, runner.spawn_rate)

    def facts(self) -> dict[str, Any]:
        """For run.json. `unsalvaged_workers`: what these sent last is in no file of the run."""
        return {
            "lost_workers": sorted(self.lost),
            "returned_workers": sorted(self.returned),
            "unsalvaged_workers": sorted(self.lost - self._on_disk),
        }
