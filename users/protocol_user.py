"""The base of all users: a host, a client, and as many lanes as requests may be in flight.

A *lane* is one greenlet that runs the user's tasks. With `--depth 16` a user has sixteen lanes on its one
connection, so `-u 20` still means twenty connections. Each lane is a shallow copy of the user after `on_start`:
what tasks keep on `self` is the lane's own, what `on_start` made is shared. To Locust they are one user: they
start, pause and stop with it.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, ClassVar

import gevent
from gevent import GreenletExit
from locust import User, events
from locust.exception import StopTest, StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING
from locust.user.wait_time import constant

from protocols.errors import LocalProtocolError
from protocols.host import Host, parse_host
from users import open_load, options, sharing  # noqa: F401  (sharing: the master and its workers agree)
from users.client import Client
from users.engine.exchange import Exchange
from users.engine.life import live, new_exchange
from users.failures import ConnectFailed
from users.options import OptionMistake
from users.recording import Recording
from users.tasks import Tasks
from users.transport import Endpoint

logger = logging.getLogger(__name__)

# A user whose settings are wrong says so in the failure table this often, instead of spinning.
_MISTAKE_PAUSE_S = 1.0


class ProtocolUser(User):
    """Abstract. Subclasses set `client_class` and `schemes`, and `host` to where the reference server listens."""

    abstract = True
    wait_time = constant(0)

    client_class: ClassVar[type[Client]]
    #: Host schemes that this protocol is reached by.
    schemes: ClassVar[tuple[str, ...]] = ("tcp",)
    #: Scenarios with several targets name the option that holds this user's host; it then goes before --host.
    host_option: ClassVar[str] = ""
    #: What to do when users of this class have no engine mode, or none with these options.
    instead_of_engine: ClassVar[str] = "leave it out, and raise --depth, --processes or -u for more load"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.client: Any = None
        self.lane_greenlet: Any = None
        self.mistake = ""
        self.depth = 1
        self._lanes: list[ProtocolUser] = []
        self.exchange: Exchange | None = None
        try:
            self.depth = options.value(environment.parsed_options, "depth")
            open_load.check_options(environment.parsed_options)
            self.configure(environment.parsed_options)
            self.client = self._make_client(self.target(environment))
            if options.value(environment.parsed_options, "engine"):
                self.exchange = self._make_exchange()
        except (LocalProtocolError, OptionMistake) as mistake:
            self.mistake = str(mistake)

    def configure(self, parsed_options: Any) -> None:
        """Read further options here: a mistake in one is then told in a sentence. Before `client` exists."""

    @classmethod
    def target(cls, environment: Any) -> Host:
        """The address that this class will load. Raises LocalProtocolError with one sentence for the user."""
        if cls.host_option:
            host = getattr(environment.parsed_options, cls.host_option, "") or cls.host
        else:
            host = environment.host or cls.host
        target = parse_host(host or "")
        if target.scheme not in cls.schemes:
            wanted = " or ".join(f"{scheme}://" for scheme in cls.schemes)
            raise LocalProtocolError(f"{cls.__name__} needs a host that starts with {wanted}, not {host!r}")
        return target

    def _make_client(self, target: Host) -> Client:
        return self.client_class(self, endpoint_of(target))

    def _make_exchange(self) -> Exchange | None:
        exchange_class = self.exchange_class()
        if exchange_class is not None:
            return new_exchange(self, exchange_class)
        parsed = self.environment.parsed_options
        if not any(offers_engine(user_class, parsed) for user_class in self.environment.user_classes):
            raise OptionMistake(no_engine_for([type(self)]))
        return None

    def exchange_class(self) -> type[Exchange] | None:
        """What this user says in engine mode (`--engine`); None: it runs its tasks then too."""
        return None

    @classmethod
    def has_engine(cls, parsed_options: Any) -> bool:
        """Whether `exchange_class` gives something, with these options."""
        return cls.exchange_class is not ProtocolUser.exchange_class

    @property
    def pace(self) -> Any:
        """The clock of this lane's requests; Locust's waits are noted there."""
        return self.client.pace if self.client is not None else None

    # -- Locust's life of a user -------------------------------------------------------------------------------

    def run(self) -> None:  # type: ignore[misc]  # final to scenarios; this class adds lanes to it
        """What Locust runs; wraps the scenario's own on_start and on_stop, which stay free for its author."""
        if self.mistake:
            self._tell_mistake()
            return
        on_start, on_stop = self.on_start, self.on_stop

        def start_and_fan_out() -> None:
            self._taskset_instance = Tasks(self)
            on_start()
            if self.exchange is not None:
                self._live_in_engine(self.exchange)
            if self.client.connects_ahead and open_load.of(self.environment) is not None:
                self.client.connect()
            self._fan_out()

        def fan_in_and_stop() -> None:
            self._fan_in()
            on_stop()

        self.on_start: Callable[[], None] = start_and_fan_out
        self.on_stop: Callable[[], None] = fan_in_and_stop
        try:
            super().run()  # type: ignore[no-untyped-call]
        finally:
            self._kill_lanes()
            self.client.recording.statistics.flush()
            self.client.close()

    def _live_in_engine(self, exchange: Exchange) -> None:
        # A waiting user is stopped at once, a running one is given its stop timeout (`stop`).
        self._state = LOCUST_STATE_RUNNING if self.environment.stop_timeout else LOCUST_STATE_WAITING
        live(exchange)
        raise GreenletExit  # as a stopped user ends: on to on_stop, without running tasks

    def stop(self, force: bool = False) -> bool:
        """Locust's; in engine mode requests under way get the stop timeout to end."""
        stopped: bool = super().stop(force)
        if self.exchange is not None and not stopped:
            self.exchange.finish()
        return stopped

    def _tell_mistake(self) -> None:
        recording = Recording(self.environment, self.client_class.request_type, "", self.context)
        failure = ConnectFailed(self.mistake)
        self._state = LOCUST_STATE_WAITING  # it may be stopped at any time
        try:
            while True:
                now_ns = monotonic_ns()
                recording.failed("connect", now_ns, now_ns, now_ns, failure)
                gevent.sleep(_MISTAKE_PAUSE_S)
        except GreenletExit:
            pass

    # -- lanes -------------------------------------------------------------------------------------------------

    def _fan_out(self) -> None:
        for _ in range(self.depth - 1):
            lane = copy.copy(self)
            for name in ("on_start", "on_stop", "_lanes"):
                lane.__dict__.pop(name, None)
            lane.client = self.client.for_lane(lane)
            lane.lane_greenlet = lane._greenlet = gevent.spawn(lane._run_lane)
            self._lanes.append(lane)

    def _run_lane(self) -> None:
        self._state = LOCUST_STATE_RUNNING
        self._taskset_instance = Tasks(self)
        try:
            self._taskset_instance.run()  # type: ignore[no-untyped-call]
        except (GreenletExit, StopUser, StopTest):
            pass

    def _fan_in(self) -> None:
        """The user stops. With a stop timeout its lanes finish their tasks as it did, or Locust kills it."""
        if self.environment.stop_timeout and self._state == LOCUST_STATE_STOPPING:
            for lane in self._lanes:
                if lane._state == LOCUST_STATE_WAITING:
                    lane.lane_greenlet.kill(block=False)
                else:
                    lane._state = LOCUST_STATE_STOPPING
            gevent.joinall([lane.lane_greenlet for lane in self._lanes])
        self._kill_lanes()

    def _kill_lanes(self) -> None:
        gevent.killall([lane.lane_greenlet for lane in self._lanes])
        self._lanes = []


def endpoint_of(target: Host) -> Endpoint:
    """The first address of a host as an endpoint."""
    host, port = target.addresses[0]
    return Endpoint(host, port, tls=target.scheme == "wss", path=target.path)


def offers_engine(user_class: type[User], parsed_options: Any = None) -> bool:
    """Whether users of this class have a way to speak in engine mode."""
    return issubclass(user_class, ProtocolUser) and user_class.has_engine(parsed_options)


def no_engine_for(user_classes: Sequence[type[User]]) -> str:
    """Why `--engine` cannot be."""
    names = ", ".join(user_class.__name__ for user_class in user_classes)
    ways = [user_class.instead_of_engine for user_class in user_classes if issubclass(user_class, ProtocolUser)]
    return f"--engine is not offered for {names}: {ways[0] if ways else ProtocolUser.instead_of_engine}"


@events.init.add_listener  # type: ignore[untyped-decorator]
def refuse_engine_where_there_is_none(environment: Any, **_: Any) -> None:
    """A scenario none of whose users has an engine mode does not start with `--engine`; a mixed one tells who has."""
    parsed = environment.parsed_options
    if not getattr(parsed, "engine", False) or getattr(parsed, "worker", False):
        return
    without = [user_class for user_class in environment.user_classes if not offers_engine(user_class, parsed)]
    if without and len(without) == len(environment.user_classes):
        raise SystemExit(f"locust: error: {no_engine_for(without)}")
    if without:
        names = ", ".join(user_class.__name__ for user_class in without)
        logger.warning("--engine drives the other users; %s run their tasks", names)


@events.init.add_listener  # type: ignore[untyped-decorator]
def refuse_wrong_hosts(environment: Any, **_: Any) -> None:
    """Headless, a host that cannot work ends the run before it starts: one sentence, exit code 1.

    A worker learns its host from the master, and the web form can still change it: there the users say so.
    """
    parsed = environment.parsed_options
    if parsed is None or not getattr(parsed, "headless", False) or getattr(parsed, "worker", False):
        return
    for user_class in environment.user_classes:
        if not issubclass(user_class, ProtocolUser):
            continue
        try:
            user_class.target(environment)
        except LocalProtocolError as mistake:
            raise SystemExit(f"locust: error: {mistake}") from None
