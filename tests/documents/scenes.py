"""How each command of the documents is executed, or why it is not. One that stands in neither table fails a test.

A scene is a folder that looks like the repository, with the files in it that its document asks the reader to save,
and a list of steps in order. What is typed differs from what is shown only where `typed` says so (a shorter time,
mostly), and in the ports: each scene has free ones in the place of `PORTS`.
"""

from typing import NamedTuple

#: Port numbers of the documents; two sessions on one machine would collide on them.
PORTS = ("7000", "8079", "8080", "8082", "8084", "8086", "8088", "9000", "9001", "9002", "9003")
PORTS += ("9100", "9101", "9102", "9103", "9400", "9500", "9646")


class Step(NamedTuple):
    """`shown` as in the document ("" for what only prepares), `typed` instead of it; `says` is in its output.

    `stays`: it goes on in the background once it has said this. `quoted`: the document's output is exactly this one's
    ("..." stands for any lines).
    """

    shown: str
    typed: str = ""
    says: tuple[str, ...] = ()
    code: int = 0
    stays: str = ""
    quoted: bool = False


class Scene(NamedTuple):
    """Steps in one folder, with the files of one document; `needs` are programs that a machine may lack."""

    document: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()


ENVELOPE = Step("", "python -m servers.envelope --port 9000", stays="envelope listening on")
LOCUST = "locust -f locustfiles/envelope.py --headless"
HOST = "--host tcp://127.0.0.1:9000"
#: The documents' plans kill after ten seconds, and have a limit that a starved machine misses.
SOONER = "; ".join(
    f"sed -i 's/{shown}/{typed}/' my-plan.toml"
    for shown, typed in (
        ('^at = "10s"', 'at = "2s"'),
        ('^restart_after = "2s"', 'restart_after = "200ms"'),
        ('"< 50ms"', '"< 5s"'),
    )
)

SCENES = {
    "tutorial": Scene(
        "docs/tutorial-own-server.md",
        (
            Step(
                "swarmproof run shout.toml",
                "swarmproof run shout.toml -t 3s",
                ("verdict INVALID", "payload mismatch", "is not the answer to"),
                code=1,
            ),
            Step("head -n 1 runs/latest/violations/*.jsonl", says=('"kind": "payload mismatch"',)),
            Step("", "sed -i 's/self.server.answer/answer/' shout_server.py"),
            Step("", r"sed -i 's/\( *\)allow_reuse_address.*/&\n\1request_queue_size = 128/' shout_server.py"),
            Step("swarmproof run shout.toml", "swarmproof run shout.toml -t 2s", ("verdict VALID",)),
            Step(
                'swarmproof run shout.toml -u 50 --fault "kill shout @3s restart 500ms"',
                'swarmproof run shout.toml -u 50 -t 4s --fault "kill shout @2s restart 200ms"',
                ("it was killed by SIGKILL", "shout is back", "1 of 1 faults took effect"),
            ),
            Step("swarmproof run shout.toml --rate 2000", "swarmproof run shout.toml --rate 2000 --dry-run"),
            Step(
                "swarmproof run shout.toml -o depth=8 -o engine=true",
                "swarmproof run shout.toml -o depth=8 -o engine=true --dry-run",
            ),
            Step("swarmproof run shout.toml --workers 2", "swarmproof run shout.toml --workers 2 --dry-run"),
            Step(
                'swarmproof run shout.toml --fault "link shout latency=50ms±10ms @2s for 4s"',
                'swarmproof run shout.toml --fault "link shout latency=50ms±10ms @2s for 4s" --dry-run',
                ("link shout",),
            ),
        ),
    ),
    "quickstart": Scene(
        "docs/quickstart.md",
        (
            Step("export PATH=$PWD/.venv/bin:$PATH"),
            Step("swarmproof --help", says=("run", "check", "new")),
            Step("swarmproof run envelope -t 10s", "swarmproof run envelope -t 2s", ("verdict VALID",)),
            Step("swarmproof check runs/latest", says=("verdict VALID",)),
            Step("swarmproof report runs/latest", says=("envelope echo",)),
            Step("swarmproof plans", says=("raft-failover",)),
            Step("swarmproof up envelope:9000 raft", stays="Ctrl-C"),
            Step("swarmproof status", says=("envelope", "leader")),
            Step("swarmproof fault kill leader --restart 1s", says=("killed by SIGKILL",)),
            Step("swarmproof heal"),
            Step("swarmproof fault pause follower", says=("stands still",)),
            Step("swarmproof heal"),
            Step(f"{LOCUST} -u 20 -t 10s {HOST}", f"{LOCUST} -u 20 -r 20 -t 1s {HOST}", ("envelope echo",)),
            Step(
                f"{LOCUST} -u 100 -r 100 -t 10s --engine --depth 16 {HOST}",
                f"{LOCUST} -u 20 -r 20 -t 1s --engine --depth 16 {HOST}",
                ("envelope echo",),
            ),
            Step(
                f'{LOCUST} -u 20 --depth 50 -t 60s --rate "0..5000 in 30s" {HOST}',
                f'{LOCUST} -u 20 -r 20 --depth 50 -t 2s --rate "0..500 in 1s" {HOST}',
                ("envelope echo",),
            ),
            Step("swarmproof integration-test --port 9000 --clients 20 --frames 50", quoted=True),
            Step("swarmproof down"),
        ),
    ),
    "reports": Scene(
        "docs/reading-a-report.md",
        (
            Step("", "swarmproof run envelope -t 2s", ("verdict VALID",)),
            Step("swarmproof report runs/latest", says=("envelope echo", "report.html")),
            Step("swarmproof run envelope --seed 1 --out before", "swarmproof run envelope -t 2s --out before"),
            Step("swarmproof run envelope --seed 2 --out after", "swarmproof run envelope -t 2s --seed 2 --out after"),
            Step(
                "swarmproof compare before/latest after/latest --html compare.html",
                says=("envelope echo", "too few samples to tell", "seed", "page    compare.html"),
            ),
            Step("swarmproof compare before/latest after/latest --json", says=('"percentiles"',)),
            Step("swarmproof report before/2* after/2*", says=("with 2 runs nobody can tell", "trend.html")),
            ENVELOPE,
            Step(
                f"{LOCUST} -u 20 -t 10s {HOST} --html locust.html",
                f"{LOCUST} -u 20 -r 20 -t 1s {HOST} --html locust.html",
                ("envelope echo",),
            ),
            Step("", "grep -c 'from when the request was due' locust.html", ("1",)),
        ),
    ),
    "verdicts": Scene(
        "docs/verdicts.md",
        (
            Step("swarmproof check lost-write.jsonl", code=1, quoted=True),
            Step("swarmproof check stale-read.jsonl", code=1, quoted=True),
            Step("swarmproof check split-brain.jsonl", code=1, quoted=True),
            Step("", "swarmproof run raft-failover -t 2s -u 4", ("verdict VALID",), code=4),
            Step("swarmproof check runs/latest --json", says=('"verdict": "valid"',), code=4),
            Step("swarmproof export runs/latest -o history.jsonl", says=("operations in history.jsonl",)),
            Step("swarmproof check history.jsonl", says=("verdict VALID",)),
            Step("", "python judge_again.py", ("valid ", 'invalid n1 acknowledged cas "5fa30663"')),
        ),
    ),
    "coordinated omission": Scene(
        "docs/open-load.md",
        (
            Step("swarmproof zoo plan freeze > freeze.toml"),
            Step(
                "SWARMPROOF_ZOO=1 swarmproof run freeze.toml",
                "SWARMPROOF_ZOO=1 swarmproof run freeze.toml -t 4s",
                ("thresholds      missed",),
                code=4,
            ),
            Step("sed '/rate/d' freeze.toml > closed.toml"),
            Step(
                "SWARMPROOF_ZOO=1 swarmproof run closed.toml",
                "SWARMPROOF_ZOO=1 swarmproof run closed.toml -t 4s",
                ("1 of 1 thresholds kept",),
            ),
        ),
    ),
    "faults": Scene(
        "docs/faults.md",
        (
            Step(
                'swarmproof run raft-failover --fault "partition leader @10s for 4s" '
                '--fault "kill leader every 20s ± 2s restart 5s"',
                'swarmproof run raft-failover --fault "partition leader @10s for 4s" '
                '--fault "kill leader every 20s ± 2s restart 5s" --dry-run',
                ("partition leader, healed after 4 s",),
            ),
            Step("swarmproof run gauntlet --dry-run", says=("bit-flip",)),
            Step("swarmproof up --links raft", stays="Ctrl-C"),
            Step(
                "swarmproof fault link leader latency=50ms±10ms --for 10s",
                "swarmproof fault link leader latency=50ms±10ms --for 1s",
            ),
            Step("swarmproof faults", says=("partition-out", "toxics of `link`")),
            Step(
                "swarmproof proxy --listen 127.0.0.1:9100 --upstream 127.0.0.1:9000 --toxic latency=50ms±10ms",
                stays="127.0.0.1:",
            ),
        ),
    ),
    "servers": Scene(
        "docs/servers.md",
        (
            Step("python -m servers.envelope --port 9000", stays="envelope listening on"),
            Step(
                "python -m servers.f00d --port 9500",
                "python -m servers.f00d --port 9500 --admin-port 9100",
                stays="f00d listening on",
            ),
            Step("python -m servers.websocket_echo --port 8080", stays="websocket_echo listening on"),
            Step("python -m servers.websocket_rpc --port 8082", stays="websocket_rpc listening on"),
            Step("python -m servers.websocket_tools --port 8079", stays="websocket_tools listening on"),
            Step("python -m servers.websocket_performance --port 8084", stays="websocket_performance listening on"),
            Step("python -m servers.websocket_load --port 8086", stays="websocket_load listening on"),
            Step("python -m servers.websocket_security --port 8088", stays="websocket_security listening on"),
            Step("curl -s localhost:9100/mode", quoted=True),
            Step("curl -s localhost:9100/mode -d 'TIMEOUT*2,SUCCESS'", says=('"TIMEOUT"',)),
            Step("""curl -s localhost:9100/mode -d '{"mode": "DELAY", "delay_s": 0.5}'""", says=('"delay_s":0.5',)),
            Step("curl -s localhost:9100/packets?device_id=DEVICE123", says=("[]",)),
            Step("curl -s -X DELETE localhost:9100/packets"),
            Step("curl -s localhost:9100/counts", says=('{"received":0,"disconnected":0,',)),
            Step("openssl rand -hex 32 > secret"),
            Step(
                "python -m servers.raft --id 1 --peers 1=127.0.0.1:9101,2=127.0.0.1:9102,3=127.0.0.1:9103 "
                "--clients 1=127.0.0.1:9001,2=127.0.0.1:9002,3=127.0.0.1:9003 "
                "--data-dir data/n1 --cluster-id demo --secret-file secret",
                stays="raft listening on",
            ),
        ),
        needs=("curl", "openssl"),
    ),
    "fleets": Scene(
        "docs/fleets.md",
        (
            ENVELOPE,
            Step(
                "locust -f locustfiles/envelope.py --master --enable-rebalancing --expect-workers 1 --headless "
                f"-u 2000 -t 5m {HOST}",
                "locust -f locustfiles/envelope.py --master --enable-rebalancing --expect-workers 1 --headless "
                f"-u 8 -r 8 -t 2s {HOST} --master-bind-port 7000",
                stays="Waiting for workers",
            ),
            Step(
                "locust -f locustfiles/envelope.py --worker --master-host 127.0.0.1",
                "locust -f locustfiles/envelope.py --worker --master-host 127.0.0.1 --master-port 7000",
            ),
            Step(
                f"{LOCUST} -u 1000 -t 60s --processes 4 --metrics-port 9646 {HOST}",
                f"{LOCUST} -u 8 -r 8 -t 60s --processes 2 --metrics-port 9646 "
                f"--master-bind-port 8080 --master-port 8080 {HOST}",
                stays="Sending spawn jobs",
            ),
            Step("curl http://127.0.0.1:9646/metrics", says=("swarmproof_workers",)),
        ),
        needs=("curl",),
    ),
    "zoo": Scene(
        "docs/zoo.md",
        (
            Step("swarmproof zoo", says=("split-brain",)),
            Step("swarmproof zoo plan split-brain", says=("[[target]]",)),
            Step("swarmproof zoo plan split-brain > split-brain.toml"),
            Step(
                "SWARMPROOF_ZOO=1 swarmproof run split-brain.toml",
                "SWARMPROOF_ZOO=1 swarmproof run split-brain.toml --dry-run",
                ("target  raft",),
            ),
            Step(
                "SWARMPROOF_ZOO=1 python -m servers.envelope --bug wrong-version",
                "SWARMPROOF_ZOO=1 python -m servers.envelope --bug wrong-version --port 9000",
                stays="envelope listening on",
            ),
        ),
    ),
    "reports of devices": Scene(
        "docs/integration-tests.md",
        (
            Step("", "python -m servers.f00d --port 9000", stays="f00d listening on"),
            Step(
                "",
                "locust -f locustfiles/f00d.py --headless -u 2 -r 2 -t 1s --host tcp://127.0.0.1:9000 "
                "--performance-report test-reports/performance-report.json",
                ("PERFORMANCE REPORT - Round-Trip Command Latency",),
            ),
            Step(
                "cp test-reports/performance-report.json test-reports/performance-$(date +%Y%m%d-%H%M%S).json",
            ),
            Step("swarmproof trend test-reports/*.json", says=("p95",)),
        ),
    ),
    "a protocol of one's own": Scene(
        "docs/your-own-protocol.md",
        (
            Step("", "ln -s tests/documents/line_server.py line-server"),
            Step("", SOONER),
            Step(
                "swarmproof run my-plan.toml",
                "swarmproof run my-plan.toml -t 5s",
                ("line capitals", "1 of 1 faults took effect", "verdict VALID"),
            ),
            Step("", "./line-server --port 7000", stays="listening"),
            Step(
                "locust -f line.py --headless -u 20 -t 10s --host tcp://127.0.0.1:7000",
                "locust -f line.py --headless -u 20 -r 20 -t 1s --host tcp://127.0.0.1:7000",
                ("line capitals",),
            ),
        ),
    ),
    "readme": Scene(
        "README.md",
        (
            Step(".venv/bin/swarmproof new protocol lines", says=("lines_codec.py",)),
            Step("", "ln -s tests/documents/my_server.sh my-server"),
            Step("", SOONER),
            Step(
                ".venv/bin/swarmproof run my-plan.toml",
                ".venv/bin/swarmproof run my-plan.toml -t 5s",
                ("verdict VALID", "1 of 1 faults took effect"),
            ),
        ),
    ),
    "benchmarks": Scene(
        "docs/performance.md",
        (
            Step("python -m benchmarks.compare", "python -m benchmarks.compare --help", ("--quick", "--only")),
            Step("python -m benchmarks.compare --scale", "python -m benchmarks.compare --scale --help", ("--scale",)),
            Step("python -m benchmarks.compare --peers", "python -m benchmarks.compare --help", ("--peers",)),
            Step("python -m benchmarks.peers", "python -m benchmarks.peers --help", ("--short", "--lie")),
            Step("python -m benchmarks.peers --lie", "python -m benchmarks.peers --help", ("--lie",)),
            Step(
                "python -m benchmarks.compare --recording",
                "python -m benchmarks.compare --recording --help",
                ("--recording",),
            ),
            Step(
                "python -m benchmarks.compare --graphs docs/images",
                "python -m benchmarks.compare --graphs docs/images --help",
                ("--graphs",),
            ),
            Step("python -m benchmarks.accuracy", "python -m benchmarks.accuracy --help", ("--kind", "--workers")),
        ),
    ),
}

#: Commands that no scene executes, and who does, or why nobody does.
ELSEWHERE = {
    "make demo": "half a minute: tests/end_to_end/test_demo.py::"
    "test_the_demo_kills_two_leaders_under_five_protocols_and_finds_nothing_untrue",
    "make test": "is what runs this test",
    "make setup": ".ci/run does it before any test",
    "make zoo": "hours; tests/zoo/test_zoo_run.py::test_a_lie_of_the_store_is_caught runs a part",
    "swarmproof zoo healthy --runs 70 --etcd-runs 30": "an hour; what it counts is in "
    "tests/zoo/test_counting.py::test_a_healthy_run_called_invalid_is_a_false_alarm_and_an_unknown_one_is_told",
    "swarmproof zoo run split-brain --seeds 5": "minutes; another exhibit is run by "
    "tests/zoo/test_zoo_run.py::test_a_lie_on_the_wire_is_caught_and_its_healthy_twin_is_left_alone",
    "docker-compose up --build --scale worker=4": "needs a daemon; "
    "tests/test_deployment.py::test_the_compose_file_is_valid and its neighbours check the file and its commands",
    'swarmproof run raft-failover -t 30s --fault "kill leader @10s restart 5s"': "the same, shorter: "
    "tests/swarmproof/test_run.py::test_a_cluster_that_loses_its_leader_twice_is_judged_valid",
    f"{LOCUST} -u 1000 -t 60s --processes 4 {HOST}": "with --metrics-port it is executed",
    "swarmproof run raft-failover --workers 2": "tests/swarmproof/test_run.py::test_workers_share_the_load",
    "swarmproof run envelope --rate 5000": "tests/swarmproof/test_run.py::"
    "test_an_open_load_says_what_became_of_its_arrivals",
    f"{LOCUST} -u 20 -t 30s --threshold 'p99{{envelope echo}}<5ms' --junit-xml out.xml": "in "
    "tests/fleet/test_thresholds.py::test_limits_that_are_kept_and_one_that_is_missed_make_exit_code_4_and_cases",
    "swarmproof integration-test --bad-clients 200": "tests/swarmproof/acceptance/test_bad_clients.py::"
    "test_two_hundred_hostile_clients_attack_and_no_good_one_fails",
    "pip install 'swarmproof[controls]'": "downloads; the lock installs the extra for the tests",
    "swarmproof run pysyncobj-compaction": "tests/end_to_end/test_pysyncobj.py::"
    "test_killed_during_its_log_compaction_it_is_convicted_of_a_lost_write",
    "pip install uv": "downloads",
    "uv pip compile --generate-hashes --no-annotate --no-header --no-emit-index-url --universal --python-version 3.11 "
    "--extra dev --extra controls pyproject.toml -o requirements.lock": "asks a registry; that the lock is complete is "
    "tests/test_deployment.py::test_every_locked_requirement_has_a_hash_and_every_dependency_is_locked",
    "make lint": ".ci/run does it before the tests",
    "swarmproof run raft-failover --web": "in a browser, with a plan of its own: "
    "tests/fleet/web/test_page.py::test_when_the_test_has_ended_it_is_judged_and_the_report_can_be_opened",
    "SWARMPROOF_WEB_PASSWORD='a good one' locust -f locustfiles/envelope.py --web-login --web-base-path /load": "in a "
    "browser: tests/fleet/web/test_login.py::test_login_base_path_and_a_run_without_a_supervisor",
    "make test TESTS=tests/judge": "is this suite, a part of it",
    "python -m benchmarks.targets.delays --delays constant:1 --freeze 20:2": "two minutes with the next two; shorter: "
    "tests/users/test_freeze.py",
    "locust -f locustfiles/envelope.py --headless -u 20 --depth 120 --rate 1000 -t 60s --host tcp://127.0.0.1:PORT": ""
    "as the one before: tests/users/test_freeze.py",
    "locust -f tests/users/freeze_scenario.py --headless -u 40 -t 60s --host tcp://127.0.0.1:PORT": ""
    "as the one before: tests/users/test_freeze.py",
    "cd lines && ../.venv/bin/swarmproof run plan.toml": "tests/swarmproof/new/test_protocol.py::"
    "test_the_tests_that_it_writes_pass",
}
