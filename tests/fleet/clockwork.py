"""A scenario without a server: every 5 ms each user records one operation of 2 ms, and now and then a violation.

`CLOCKWORK_TICKS=25` has each user stop counting after so many.
"""

import os
import time
from typing import Any

import gevent
from locust import User, constant, events, runners, task
from locust.runners import WorkerRunner

from records.recorder import recorder
from records.violations import PAYLOAD
from swarmproof.fleet import extension, run_extension  # noqa: F401

if os.environ.get("CLOCKWORK_NO_SHARED_DISK"):
    run_extension.is_same_directory = lambda directory, token: False


if os.environ.get("CLOCKWORK_WATCHES_ITS_CPU"):
    runners.CPU_MONITOR_INTERVAL = 0.5

    def tell(when: str, environment: Any) -> None:
        print(f"polled at {when}: {environment.swarmproof._busy_poll.idle_ns()}", flush=True)

    def watch(environment: Any, **_: Any) -> None:
        environment.events.test_stop.add_listener(lambda **_: tell("test_stop", environment))
        environment.events.quit.add_listener(lambda **_: tell("quit", environment))

    events.init.add_listener(watch)


if os.environ.get("CLOCKWORK_SLOW_TO_INIT"):
    connect = WorkerRunner.connect_to_master

    def connect_slowly(self: Any) -> None:
        connect(self)
        gevent.sleep(1)

    WorkerRunner.connect_to_master = connect_slowly

TICKS = int(os.environ.get("CLOCKWORK_TICKS", "0"))


class ClockworkUser(User):
    wait_time = constant(0.005)
    ticks = 0

    @task
    def tick(self) -> None:
        self.ticks += 1
        if TICKS and self.ticks > TICKS:  # its counts stand still, so that they can be compared
            gevent.sleep(60)
            return
        begin = time.monotonic_ns()
        identity = recorder.operations.invoke(1, "append", "k", "1,")
        gevent.sleep(0.002)
        end = time.monotonic_ns()
        recorder.operations.complete(identity, "ok", return_ns=end)
        recorder.latency.record("clock tick", begin, begin, end)
        self.environment.events.request.fire(
            request_type="clock",
            name="tick",
            response_time=(end - begin) / 1e6,
            response_length=0,
            response=None,
            context={},
            exception=None,
        )
        if os.environ.get("CLOCKWORK_VIOLATES"):
            recorder.violations.add(PAYLOAD, "clock tick")
            self.environment.stats.log_error("clock", "tick", "payload mismatch")
