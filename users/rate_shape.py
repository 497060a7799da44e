"""A Locust LoadTestShape whose stages are rates: open load that is written into a locustfile instead of `--rate`.

    class Rush(RateShape):
        stages = "0..5000 in 30s, 5000 for 1m, 5000..0 in 10s"
        users = 20

Locust picks the class up as it does every shape: headless, with workers, and from the web UI. Stages are those of
`--rate` (`records.rates`). The run ends with its last stage; one without a duration goes on until `--run-time` or a
stop. Users are connections, as ever: `users` of them, or `-u`.
"""

import logging
from time import monotonic_ns
from typing import Any, ClassVar, Final

from locust import LoadTestShape

from records.rates import Stages, parse_stages, show_stages
from users import sharing  # noqa: F401  (offers --rate, and shares it between workers)
from users.arrivals import CONSTANT, KINDS

logger = logging.getLogger(__name__)

# The harness could not do its work: as for every other mistake of whoever wrote the load.
EXIT_MISTAKE: Final = 3

# The rate after the last stage: whatever was due until then has been, and nothing more is.
_THEN_NOTHING: Final = " then 0"


class RateShape(LoadTestShape):
    """Abstract. Subclasses set `stages`, and what else is not to be left to the command line."""

    abstract = True
    #: -u, -r and -t are read where the class does not say.
    use_common_options = True

    #: As --rate has it: "1000 for 10s then 2000 for 10s".
    stages: ClassVar[str] = ""
    #: "constant", "poisson", or what --arrivals says.
    arrivals: ClassVar[str] = ""
    #: How many users; 0: what -u says.
    users: ClassVar[int] = 0
    #: How many of them start in a second; 0: what -r says, or all at once.
    spawn_rate: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._heard: Any = None
        self._length_ns: int | None = None
        self._before: dict[str, Any] = {}
        self._mistake = ""

    def reset_time(self) -> None:
        """Locust calls this when a run begins, before anything is started."""
        super().reset_time()  # type: ignore[no-untyped-call]
        self._take_over(self._environment)

    def tick(self) -> tuple[int, float] | None:
        """How many users; None when the last stage is over."""
        if self._mistake:
            logger.error("%s", self._mistake)
            self._environment.process_exit_code = EXIT_MISTAKE
            self._give_back()
            return None
        options = self._environment.parsed_options
        run_time_s = getattr(options, "run_time", None)
        if run_time_s and self.get_run_time() >= run_time_s:  # type: ignore[no-untyped-call]
            return None
        origin_ns = getattr(self._environment, "open_load_origin_ns", 0)
        if self._length_ns is not None and origin_ns and monotonic_ns() >= origin_ns + self._length_ns:
            return None
        users = self.users or getattr(options, "num_users", None) or 1
        return users, float(self.spawn_rate or getattr(options, "spawn_rate", None) or users)

    @property
    def _environment(self) -> Any:
        assert self.runner is not None, "Locust attaches the runner before it asks"
        return self.runner.environment

    def _take_over(self, environment: Any) -> None:
        """Put the stages where `--rate` is read, here and (as options travel with the users) in the workers."""
        options = environment.parsed_options
        if self._before:
            return
        self._mistake = ""
        try:
            stages = parse_stages(self.stages)
            if self.arrivals and self.arrivals not in KINDS:
                raise ValueError(f"arrivals must be one of {', '.join(KINDS)}, not {self.arrivals!r}")
        except ValueError as mistake:
            self._mistake = f"the shape {type(self).__name__} cannot be followed: {mistake}"
            return
        given = getattr(options, "rate", "")
        if given:
            logger.warning("the shape %s says the rate; --rate %s is not used", type(self).__name__, given)
        self._before = {"rate": given, "arrivals": getattr(options, "arrivals", CONSTANT)}
        self._length_ns = length_ns(stages)
        ends = self._length_ns is not None and stages[-1].last_per_s > 0
        options.rate = show_stages(stages) + (_THEN_NOTHING if ends else "")
        options.arrivals = self.arrivals or self._before["arrivals"]
        environment.open_load_origin_ns = 0
        if self._heard is not environment:  # not taken away again: Locust walks through the list as it calls them
            self._heard = environment
            environment.events.test_stop.add_listener(self._give_back)

    def _give_back(self, **_: Any) -> None:
        """The next run may have another shape, or none."""
        if self._before:
            vars(self._environment.parsed_options).update(self._before)
            self._before = {}


def length_ns(stages: Stages) -> int | None:
    """How long all stages take together; None when the last one goes on."""
    durations_s = [stage.duration_s for stage in stages]
    if durations_s[-1] is None:
        return None
    return round(sum(duration_s or 0.0 for duration_s in durations_s) * 1e9)
