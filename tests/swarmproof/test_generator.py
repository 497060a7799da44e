"""The lines about the load generator's own health."""

from swarmproof.generator import generator_lines, lost_text

HEALTHY = {"hub_lag_p99_s": 0.0031, "hub_lag_max_s": 0.0124, "generator_cpu_share": 0.45}


def test_a_healthy_generator_is_one_line() -> None:
    assert generator_lines(HEALTHY) == ["woke its users 3.1 ms late or less (p99, at most 12.4 ms); used 45% of a core"]


def test_how_late_replies_were_read_is_told_where_the_kernel_knew() -> None:
    line = generator_lines({**HEALTHY, "unread_p99_s": 0.00021, "unread_max_s": 0.0042})[0]
    assert "; read replies 0.21 ms after they came or sooner (p99, at most 4.2 ms); used" in line


def test_a_run_that_says_nothing_has_no_line() -> None:
    assert generator_lines({}) == []


def test_dropped_arrivals_and_foreign_clocks_are_told() -> None:
    clocks = {
        "a": {"offset_s": 0.0, "error_s": 0.0, "shared": True},
        "b": {"offset_s": 3.0, "error_s": 0.0004, "shared": False},
    }
    line = generator_lines({**HEALTHY, "rate": "500", "dropped": 3, "clocks": clocks})[0]
    assert line.endswith("; dropped 3 arrivals; 1 of 2 workers have clocks of their own, known to ±0.4 ms")


def test_drops_say_what_helps_and_lagging_seconds_are_counted() -> None:
    first, second = generator_lines({**HEALTHY, "rate": "500", "dropped": 3, "lagged_seconds": [7, 8]})
    assert "lagged in 2 seconds, whose latencies contain its own" in first
    assert second.startswith("3 arrivals were DROPPED: no user was free in time; use more users")


def test_lost_workers_say_what_went_with_them() -> None:
    load = {"lost_workers": ["a", "b"], "unreported_requests": 27, "unsalvaged_requests_about": 1000}
    requests = (
        "2 workers were lost: 27 requests recorded but not reported are missing from Locust's table only; "
        "about 1000 requests are lost altogether"
    )
    assert lost_text(load) == requests
    arrivals = "; about 2000 arrivals are in no count: not issued, or not reported"
    assert lost_text({**load, "lost_arrivals_about": 2000}) == requests + arrivals
    assert lost_text({"lost_workers": ["a"], "unreported_requests": 0}) == (
        "one worker was lost: nothing that was recorded is missing"
    )


def test_advice_is_a_line_of_its_own() -> None:
    assert generator_lines({**HEALTHY, "generator_advice": "spread the users"})[-1] == "spread the users"
