"""The master asks its workers for the time: what their clocks are ahead of its own goes into the run directory.

    master -> worker   "swarmproof_clock"   {"asked_ns": 123}
    worker -> master   "swarmproof_clock"   {"asked_ns": 123, "now_ns": 456, "clock": "...", "process": "worker-b-41"}

Often at first, when idle event loops answer at once, then rarely, for drift. A worker with the master's own clock
(the same machine) is noted as sharing it.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import gevent
from locust.runners import MasterRunner, WorkerRunner

from records.clock import clock_name
from records.clocks import ClockMeasurement, ClockOffset, write_clocks
from records.run_directory import RunDirectory

CLOCK: Final = "swarmproof_clock"

OFTEN_S: Final = 0.5
OFTEN_FOR_S: Final = 10.0
RARELY_S: Final = 10.0


class MasterClocks:
    """The master's side: asks while a run lasts, and keeps ``clocks.json`` up to date."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._run: RunDirectory | None = None
        self._measured: dict[str, ClockMeasurement] = {}
        self._shared: set[str] = set()
        self._greenlet: Any = None
        runner.register_message(CLOCK, self._on_answer)

    def start(self, run: RunDirectory) -> None:
        self.stop()
        self._run = run
        self._measured, self._shared = {}, set()
        self._greenlet = gevent.spawn(self._ask)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    @property
    def offsets(self) -> dict[str, ClockOffset]:
        """By process, as far as known."""
        shared = dict.fromkeys(sorted(self._shared), ClockOffset(0, 0, shared=True))
        return shared | {process: measured.offset for process, measured in sorted(self._measured.items())}

    def facts(self) -> dict[str, Any]:
        """For run.json: seconds, and how wrong they may be."""
        return {
            "clocks": {
                process: {
                    "offset_s": round(clock.offset_ns / 1e9, 6),
                    "error_s": round(clock.error_ns / 1e9, 6),
                    "shared": clock.shared,
                }
                for process, clock in self.offsets.items()
            }
        }

    def _ask(self) -> None:
        began = time.monotonic()
        while True:
            clients = self._runner.clients
            for client in clients.ready + clients.spawning + clients.running:
                self._runner.send_message(CLOCK, {"asked_ns": time.monotonic_ns()}, client_id=client.id)
            gevent.sleep(OFTEN_S if time.monotonic() - began < OFTEN_FOR_S else RARELY_S)

    def _on_answer(self, msg: Any, **_: Any) -> None:
        heard_ns = time.monotonic_ns()
        data = msg.data
        process = str(data.get("process") or "")
        asked_ns, their_ns = data.get("asked_ns"), data.get("now_ns")
        if self._run is None or not process or type(asked_ns) is not int or type(their_ns) is not int:
            return
        before = self.offsets
        if data.get("clock") == clock_name():
            self._shared.add(process)
        else:
            self._measured.setdefault(process, ClockMeasurement()).add(asked_ns, their_ns, heard_ns)
        if self.offsets != before:
            write_clocks(self._run, self.offsets)


def _answering(runner: Any, process: Callable[[], str]) -> Callable[..., None]:
    def on_question(msg: Any, **_: Any) -> None:
        if name := process():
            data = {"asked_ns": msg.data["asked_ns"], "now_ns": time.monotonic_ns(), "clock": clock_name()}
            runner.send_message(CLOCK, data | {"process": name})

    return on_question


def attach(runner: Any, process: Callable[[], str]) -> MasterClocks | None:
    """Be ready to ask (a master), or to answer (a worker) as `process`, which names its records ("" between runs)."""
    if isinstance(runner, MasterRunner):
        return MasterClocks(runner)
    if isinstance(runner, WorkerRunner):
        runner.register_message(CLOCK, _answering(runner, process))
    return None
