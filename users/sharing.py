"""Who issues which arrivals of an open load: agreed between the master and its workers, in Locust's messages.

    worker -> master   "swarmproof_wants"   {"wants": true}      a user of mine waits for arrivals; false: none is left
    master -> worker   "swarmproof_share"   {"origin": [...], "clock": ..., "from_ns": ..., "index": 1, "count": 3}

The master shares equally between the workers that want, from a moment a little ahead on, so that all of them change
over at the same arrival. The schedule does not move. What a lost worker had not issued of its share until then is
lost with it; so the master can be asked at the end how many arrivals there were (`environment.open_load_due`). A
process alone has all.
"""

import logging
from functools import partial
from time import monotonic_ns
from typing import Any, Final

import gevent
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from records.clock import clock_name, read_clock, shift_ns
from users import open_load
from users.arrivals import Schedule, Share
from users.open_load import START_LEAD_NS
from users.options import OptionMistake

logger = logging.getLogger(__name__)

WANTS: Final = "swarmproof_wants"
SHARE: Final = "swarmproof_share"

# Longer than a message takes to a worker whose event loop is behind.
RESHARE_LEAD_NS: Final = 1_000_000_000
# At the start the master waits this long for all workers to have users, and then begins with those that have.
ALL_WANT_WITHIN_S: Final = 2.0
LOOK_EVERY_S: Final = 0.1


class Master:
    """Knows who wants, and tells everyone their share."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._wanting: set[str] = set()
        self._members: list[str] = []
        self._told: set[str] = set()
        self._origin_ns = 0
        self._first_ns = 0
        self._schedule: Schedule | None = None
        self._greenlet: Any = None

    def start(self, schedule: Schedule) -> None:
        self.stop()
        self._wanting = set()
        self._members = []
        self._told = set()
        self._origin_ns = self._first_ns = 0
        self._schedule = schedule
        self._greenlet = gevent.spawn(self._watch)

    def stop(self) -> None:
        if self._greenlet is None:
            return
        self._greenlet.kill()
        self._greenlet = None
        if self._origin_ns and self._schedule is not None:
            offset_ns = monotonic_ns() - self._origin_ns
            self._runner.environment.open_load_due = partial(self._schedule.due_before, offset_ns)

    def on_wants(self, msg: Any, **_: Any) -> None:
        if msg.data["wants"]:
            self._first_ns = self._first_ns or monotonic_ns()
            self._wanting.add(msg.node_id)
        else:
            self._wanting.discard(msg.node_id)

    def _watch(self) -> None:
        while True:
            gevent.sleep(LOOK_EVERY_S)
            clients = self._runner.clients
            alive = [client.id for client in clients.ready + clients.spawning + clients.running]
            wanting = [worker for worker in alive if worker in self._wanting]
            if not self._origin_ns:
                waited_s = (monotonic_ns() - self._first_ns) / 1e9
                if not wanting or (len(wanting) < len(alive) and waited_s < ALL_WANT_WITHIN_S):
                    continue
                self._origin_ns = monotonic_ns() + START_LEAD_NS
                self._runner.environment.open_load_origin_ns = self._origin_ns
                self._share(wanting, 0)
            elif set(wanting) != set(self._members):
                logger.info("arrivals are shared by %d workers now (%d before)", len(wanting), len(self._members))
                self._share(wanting, max(0, monotonic_ns() + RESHARE_LEAD_NS - self._origin_ns))

    def _share(self, members: list[str], from_ns: int) -> None:
        # Who stays keeps its place in the order.
        self._members = [worker for worker in self._members if worker in members]
        self._members += [worker for worker in members if worker not in self._members]
        self._told.update(self._members)
        for worker in self._told:
            data = {
                "origin_ns": self._origin_ns,
                "reading": read_clock(),
                "clock": clock_name(),
                "from_ns": from_ns,
                "index": self._members.index(worker) if worker in self._members else -1,
                "count": max(1, len(self._members)),
            }
            self._runner.send_message(SHARE, data, client_id=worker)


class Worker:
    """Asks for a share when its users want one, and takes what it is told."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._greenlet: Any = None
        self._wants = False

    def start(self) -> None:
        self.stop()
        self._wants = False
        self._greenlet = gevent.spawn(self._watch)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None

    def want(self) -> None:
        self._say(True)

    def _say(self, wants: bool) -> None:
        if wants != self._wants:
            self._wants = wants
            self._environment.runner.send_message(WANTS, {"wants": wants})

    def _watch(self) -> None:
        """Users come and go when Locust balances them between workers."""
        while True:
            gevent.sleep(LOOK_EVERY_S)
            self._say(self._environment.runner.user_count > 0)

    def on_share(self, msg: Any, **_: Any) -> None:
        load = open_load.of(self._environment)
        if load is None:
            return
        data = msg.data
        origin_ns = data["origin_ns"]
        if data["clock"] != clock_name():
            origin_ns += shift_ns(data["reading"], read_clock())
        from_ns = data["from_ns"]
        late_ns = monotonic_ns() - (origin_ns + from_ns)
        if from_ns and late_ns > 0:
            logger.warning(
                "arrivals were shared anew %.1f s ago and this worker hears it now: some of that time were issued "
                "twice or not at all",
                late_ns / 1e9,
            )
        load.start(origin_ns)
        load.share(Share(from_ns, data["index"], data["count"]))


def _on_init(environment: Any, **_: Any) -> None:
    runner = environment.runner
    master = worker = None
    if isinstance(runner, MasterRunner):
        master = Master(runner)
        runner.register_message(WANTS, master.on_wants)
    elif isinstance(runner, WorkerRunner):
        worker = Worker(environment)
        runner.register_message(SHARE, worker.on_share)

    def on_test_start(**_: Any) -> None:
        end()
        environment.open_load_origin_ns = 0  # the schedule's zero, for whoever asks how far it is
        environment.open_load_due = int
        try:
            if master is not None:
                schedule = open_load.schedule_of(environment.parsed_options)
                if schedule is not None:
                    master.start(schedule)
                return
            environment.open_load = load = open_load.from_options(
                environment.parsed_options, worker.want if worker is not None else None
            )
        except OptionMistake as mistake:
            logger.error("%s", mistake)  # typed into the web form; every user says so too
            return
        if load is None:
            return
        if worker is not None:
            worker.start()
        else:
            environment.open_load_origin_ns = monotonic_ns() + START_LEAD_NS
            load.start(environment.open_load_origin_ns)
            load.share(Share(0, 0, 1))

    def end(**_: Any) -> None:
        for side in (master, worker):
            if side is not None:
                side.stop()
        load = open_load.of(environment)
        if load is not None:
            load.close()
            environment.open_load = None

    environment.open_load = None
    environment.open_load_origin_ns = 0
    environment.open_load_due = int  # asked, how many arrivals the schedule had until its end; here: none
    environment.events.test_start.add_listener(on_test_start)
    environment.events.test_stopping.add_listener(end)
    environment.events.quitting.add_listener(end)


events.init.add_listener(_on_init)
