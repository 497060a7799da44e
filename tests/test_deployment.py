"""The composed services are valid, and what they run is what the code offers."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from records.faults import FaultRecord, append_fault
from records.latency import LatencyRecorder, LatencyStore
from records.leadership import Leader, append_leader
from records.offered import Offered
from records.run_directory import RunDirectory
from records.violations import PAYLOAD, ViolationLog
from swarmproof.fleet.health import Health
from swarmproof.fleet.metrics import RunCollector
from tests.components import require
from tests.processes import ROOT, ServerProcess
from tests.servers.clients import http_request

COMPOSE = ROOT / "docker-compose.yml"
DEPLOY = ROOT / "deploy"


def test_the_compose_file_is_valid() -> None:
    program = require("docker-compose")
    done = subprocess.run([program, "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_LOCUST_HELP = """
import runpy, sys
import locust
from locust.argument_parser import get_parser
runpy.run_path(sys.argv[1])
print(get_parser(default_config_files=[]).format_help())
"""


def _commands() -> list[list[str]]:
    """Every `python -m servers.X ...` and `locust ...` of the compose file, its folded lines joined."""
    text = COMPOSE.read_text(encoding="utf-8")
    folded = re.sub(r">-\n((?:      .*\n)+)", lambda match: " ".join(match[1].split()) + "\n", text)
    return [match[1].split() for match in re.finditer(r"command: ((?:python -m servers|locust)[^\n]*)", folded)]


def test_the_compose_file_names_a_server_for_each_protocol() -> None:
    modules = {command[2] for command in _commands() if command[0] == "python"}
    websockets = {f"websocket_{kind}" for kind in ("echo", "rpc", "tools", "performance", "load", "security")}
    assert modules == {f"servers.{name}" for name in {"envelope", "f00d", "raft"} | websockets}


@pytest.mark.parametrize("command", _commands(), ids=lambda command: "-".join(command[2:5]).replace("/", "-"))
def test_every_option_in_the_compose_file_exists(command: list[str]) -> None:
    if command[0] == "python":
        base = [sys.executable, *command[1:3], "--help"]
    else:  # Locust's own --help leaves out what a locustfile adds
        base = [sys.executable, "-c", _LOCUST_HELP, command[2]]
    done = subprocess.run(base, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for option in (part for part in command if part.startswith("--")):
        assert option in done.stdout, f"{command[2]} knows no {option}"


def _yaml(text: str) -> Any:
    """YAML as plain data. The interpreter of docker-compose has the library; we need it here only."""
    require("docker-compose")
    convert = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout, default=str)"
    done = subprocess.run(["/usr/bin/python3", "-c", convert], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _composed(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [require("docker-compose"), "-f", str(COMPOSE), *options, "config"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return _yaml(done.stdout)


def test_nobody_runs_as_root_and_everybody_tells_how_they_are() -> None:
    services = _composed("--profile", "etcd")["services"]
    assert set(services) >= {"master", "worker", "raft1", "raft2", "raft3", "etcd", "prometheus", "grafana"}
    for name, service in services.items():
        assert service.get("user", "") not in ("root", "0", "0:0"), name
        if service["image"] != "swarmproof":  # our own image names its user
            assert service.get("user"), name
        if name != "raft-secret":  # which does one thing and ends
            assert service["healthcheck"]["test"], name
        for port in service.get("ports", []):
            address = port if isinstance(port, str) else str(port.get("host_ip"))
            assert address.startswith("127.0.0.1"), f"{name} publishes {port}"
    assert services["etcd"]["profiles"] == ["etcd"]


def test_what_is_mounted_is_there() -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    mounted = re.findall(r"- (\./deploy/[^:]+):", text)
    assert len(mounted) >= 4
    for path in mounted:
        assert (ROOT / path).exists(), path


def test_what_prometheus_scrapes_is_served() -> None:
    """Each target is a service of the compose file, at the port that its own command names."""
    services = _composed("--profile", "etcd")["services"]
    config = _yaml((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = [
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    ]
    assert len(targets) >= 8
    for target in targets:
        name, port = target.split(":")
        command = services[name]["command"]
        command = command if isinstance(command, str) else " ".join(command)
        assert f"--metrics-port {port}" in command or f":{port}" in command, target


def _promtool(*arguments: str) -> None:
    done = subprocess.run([require("promtool"), "check", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    rules = DEPLOY / "prometheus" / "rules.yml"
    _promtool("rules", str(rules))
    config = tmp_path / "prometheus.yml"
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config.write_text(text.replace("/etc/prometheus/rules.yml", str(rules)))
    _promtool("config", str(config))


def test_promtool_finds_fault_with_a_rule_that_has_one(tmp_path: Path) -> None:
    broken = tmp_path / "rules.yml"
    broken.write_text((DEPLOY / "prometheus" / "rules.yml").read_text().replace("rate(", "ratee(", 1))
    with pytest.raises(AssertionError, match="unknown function"):
        _promtool("rules", str(broken))


def _exported(tmp_path: Path) -> set[str]:
    """The names of all samples that a run's master and a Raft node export."""
    run = RunDirectory.create(tmp_path, "x")
    append_fault(run, FaultRecord(1, "kill", "leader", took_effect=True))
    append_leader(run, Leader(1, "raft", "n1", 1))
    log = ViolationLog(run.violations_dir / "p.jsonl", "p")
    log.add(PAYLOAD, "envelope echo")
    log.close()
    recorder = LatencyRecorder()
    recorder.record("envelope echo", 1, 1, 2)
    store = LatencyStore()
    store.add(recorder.take())
    error = SimpleNamespace(name="envelope echo", error="x", occurrences=1)
    runner = SimpleNamespace(errors={"x": error}, user_count=1)
    of = SimpleNamespace(
        run=run,
        store=store,
        health=Health(),
        offered=Offered(),
        lost_workers=set(),
        environment=SimpleNamespace(runner=runner),
    )
    ours = {sample.name for family in RunCollector(of).collect() for sample in family.samples}
    ours.add("swarmproof_workers")  # has samples in a fleet only
    with ServerProcess("raft", "--metrics-port", "0") as node:
        text = http_request(node.logged_address("metrics_listening"), "GET", "/metrics")[1]
    theirs = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    return ours | theirs | {"up"}


def _expressions() -> list[str]:
    found = []
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        found += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    for group in _yaml((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        found += [rule["expr"] for rule in group["rules"]]
    return found


_METRIC = re.compile(r"(?<![\w:\"])([a-z][a-z0-9_:]*[a-z0-9])(?=[{\[\s)]|$)(?!\s*\()")
_WORDS = {"by", "le", "or", "sum", "and", "max", "on", "bool"}


def _metrics_in(expression: str) -> set[str]:
    """The names of metrics: what is left without strings, labels in braces and in `by (...)`, functions and words."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}", " ", re.sub(r"\bby \([^)]*\)", " ", text))
    return {name for name in _METRIC.findall(text) if name not in _WORDS}


def test_names_of_metrics_are_found_in_expressions() -> None:
    assert _metrics_in('sum by (a, le) (rate(x_total{b="y_total"}[1m])) / (c:d > 0)') == {"x_total", "c:d"}


def test_every_metric_of_dashboards_and_rules_is_really_exported(tmp_path: Path) -> None:
    recorded = set()
    for group in _yaml((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        recorded |= {rule["record"] for rule in group["rules"] if "record" in rule}
    used = {name for expression in _expressions() for name in _metrics_in(expression)}
    assert len(used) > 15
    exported = _exported(tmp_path)
    assert used <= exported | recorded, used - exported - recorded


def test_the_dashboards_show_the_datasource_that_is_provisioned() -> None:
    folder = DEPLOY / "grafana"
    (source,) = _yaml((folder / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    dashboards = [json.loads(path.read_text()) for path in sorted((folder / "dashboards").glob("*.json"))]
    assert len({dashboard["uid"] for dashboard in dashboards}) == len(dashboards) == 2
    for dashboard in dashboards:
        identities = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(identities)) == len(identities)
        for panel in dashboard["panels"]:
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
            assert panel["title"]


def test_the_image_copies_every_package_and_installs_from_the_lock() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for package in ("protocols", "records", "servers", "users", "swarmproof", "locustfiles", "plans"):
        assert f"COPY {package} {package}" in text
        assert (ROOT / package).is_dir()
    assert "--require-hashes -r requirements.lock" in text
    assert "USER swarm" in text


def test_every_locked_requirement_has_a_hash_and_every_dependency_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {
        re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)
    }  # type: ignore[index]
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    wanted = re.findall(r'^    "([A-Za-z0-9-]+)>=', Path(ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert len(wanted) > 15
    assert {name.lower() for name in wanted} <= pinned
