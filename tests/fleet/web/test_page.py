"""The web UI of `swarmproof run --web`, in a browser: one story of a test from the start form to its report.

The story is told once and each of its sentences is a test: starting a cluster and a browser takes longer than looking.
"""

import json
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from records.faults import FaultRecord, read_faults
from records.run_directory import RunDirectory
from tests.browser import chromium, keep, nameless, too_faint
from tests.processes import wait_until
from tests.swarmproof.leftovers import Command, await_nothing_left

PLAN = """
title = "Three nodes under the web UI"
[[target]]
kind = "raft"
nodes = 3
[load]
locustfile = "raft_kv"
users = 3
rate = "60/s"
"""
WITHIN_MS = 45_000


@dataclass
class Story:
    """What was seen on the way."""

    fields: list[str] = field(default_factory=list)
    percentiles: str = ""
    faults_tab: str = ""
    verdict_tab: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    dialog: str = ""
    focused: str = ""
    after_escape: list[Any] = field(default_factory=list)
    said: str = ""
    bands: int = 0
    ribbon: list[str] = field(default_factory=list)
    partition: tuple[bool, str] = (True, "")
    readout: str = ""
    faint: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    nameless: list[str] = field(default_factory=list)
    outline: str = ""
    lost: str = ""
    recovered: bool = False
    at_once: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    unknown: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    foreign: tuple[int, dict[str, str]] = (0, {})
    judged: dict[str, Any] = field(default_factory=dict)
    report: str = ""
    stayed: bool = False
    second: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    code: int = -1
    log: str = ""
    faults: list[FaultRecord] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)


def act(address: str, body: object, **headers: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(
        f"{address}/swarmproof/act",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Swarmproof": "1", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def live(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/swarmproof/live", timeout=30) as reply:
        data: dict[str, Any] = json.load(reply)
        return data


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "web.toml").write_text(PLAN)
    seen = Story()
    with chromium(folder / "profile") as browser:
        command = Command("run", "web.toml", "--web", directory=folder)
        try:
            match = re.search(r"http://\S+(?=;)", command.read_until("web UI at "))
            assert match
            address = match[0]
            wait_until(lambda: answers(address), "the web UI", 60.0)
            page = browser.page()
            start_from_the_form(page, address, seen)
            watch_the_tab(page, seen)
            kill_by_the_button(page, address, seen)
            look_closely(page, seen)
            lose_the_server(browser.page(watched=False), address, seen)
            press_at_once(address, seen)
            stop_and_read_the_report(page, address, seen)
            leave_while_the_verdict_comes(browser.page(), address, seen)
            start_again(page, address, seen)
            seen.complaints = browser.complaints
            command.signal(signal.SIGINT)
            seen.code = command.wait(60)
            seen.log = command.log()
            await_nothing_left(command.mark)
            runs = sorted(path for path in (folder / "runs").iterdir() if not path.is_symlink())
            seen.faults = read_faults(RunDirectory.open(runs[0]))
            seen.runs = [json.loads((path / "verdict.json").read_text())["verdict"] for path in runs]
            yield seen
        finally:
            command.close()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def start_from_the_form(page: Page, address: str, seen: Story) -> None:
    seen.before = live(address)
    page.goto(address)
    page.get_by_text("Custom parameters").click()
    expect(page.get_by_label("Stale Reads")).to_be_visible()
    seen.fields = [label for label in page.locator("label").all_inner_texts() if label]
    keep(page, "start-form")
    page.get_by_label("Number of users").fill("3")
    page.get_by_role("button", name="Start").click()


def watch_the_tab(page: Page, seen: Story) -> None:
    page.get_by_role("tab", name="Percentiles").click()
    expect(page.get_by_role("cell", name="kv append").first).to_be_visible(timeout=WITHIN_MS)
    seen.percentiles = page.get_by_role("table").inner_text()
    keep(page, "tab-percentiles")


def kill_by_the_button(page: Page, address: str, seen: Story) -> None:
    page.get_by_role("link", name="Live page").click()
    page.locator("#response path.p50").wait_for(state="attached")
    partition = page.get_by_role("button", name="Partition")
    seen.partition = partition.is_disabled(), page.locator("#why-not").inner_text()
    page.get_by_label("Healed after").select_option("1s")
    kill = page.get_by_role("button", name="Kill")
    kill.focus()  # from here by keyboard alone
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    seen.dialog = dialog.inner_text()
    seen.focused = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    seen.after_escape = live(address)["faults"]
    page.keyboard.press("Enter")
    # Closed and opened again before the browser has told of the closing, as it does a frame later.
    page.evaluate("document.getElementById('confirm').close(); document.activeElement.click()")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said = page.get_by_role("status")
    expect(said).to_contain_text("is gone", timeout=WITHIN_MS)
    seen.said = said.inner_text()
    page.locator("#response rect.outage").wait_for(state="attached")  # drawn when a write was acknowledged again
    seen.bands = page.locator("#response rect.band").count()
    wait_until(lambda: page.locator("#response .term").count() >= 2, "another leader in the ribbon")
    # Confirmed, and asked again before the browser has told of the answer.
    page.evaluate(
        """() => {
          const heal = document.querySelector("[data-action=heal]");
          heal.click();
          document.getElementById("confirm").close("yes");
          heal.click();
        }"""
    )
    page.keyboard.press("Escape")
    expect(said).not_to_contain_text("is gone", timeout=WITHIN_MS)
    seen.ribbon = page.locator("#response .term title").all_text_contents()


def look_closely(page: Page, seen: Story) -> None:
    page.locator("#response").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    seen.readout = page.locator("#readout").inner_text()
    seen.nameless = nameless(page)
    seen.outline = page.locator("body").aria_snapshot()
    for theme in ("light", "dark"):
        if page.evaluate("document.documentElement.dataset.theme") != theme:
            page.get_by_role("button", name="Dark").click()
        seen.faint[theme] = too_faint(page)
        keep(page, f"live-{theme}")
    assert page.evaluate("localStorage.theme") == "dark"
    page.get_by_role("link", name="Locust").click()
    page.get_by_role("tab", name="Faults").click()
    expect(page.get_by_role("cell", name="kill", exact=True).first).to_be_visible(timeout=WITHIN_MS)
    seen.faults_tab = page.get_by_role("table").inner_text()
    keep(page, "tab-faults")


def lose_the_server(page: Page, address: str, seen: Story) -> None:
    page.goto(f"{address}/swarmproof")
    page.locator("#response path.p50").wait_for(state="attached")
    page.route("**/swarmproof/live", lambda route: route.abort())
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible(timeout=WITHIN_MS)
    seen.lost = alert.inner_text() + (" off" if page.get_by_role("button", name="Kill").is_disabled() else "")
    page.unroute("**/swarmproof/live")
    expect(alert).to_be_hidden(timeout=WITHIN_MS)
    seen.recovered = page.get_by_role("button", name="Kill").is_enabled()
    page.close()


def press_at_once(address: str, seen: Story) -> None:
    kill = {"action": "kill", "target": "leader", "heal_after": "200ms"}
    people = [threading.Thread(target=lambda: seen.at_once.append(act(address, kill))) for _ in range(2)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    for body in (
        {"action": "burn", "target": "leader"},
        {"action": "kill", "target": "n9"},
        {"action": "kill", "target": "leader", "heal_after": "soon"},
        {"action": "kill", "target": "leader @0s restart 1s"},
        {"action": "partition", "target": "leader", "heal_after": "1s"},
        ["kill"],
    ):
        seen.unknown.append(act(address, body))
    seen.foreign = act(address, kill, Origin="http://elsewhere.example")


def stop_and_read_the_report(page: Page, address: str, seen: Story) -> None:
    page.get_by_role("button", name="Stop").click()
    wait_until(lambda: live(address)["report"], "the verdict and the report", 90.0)
    seen.judged = live(address)
    page.get_by_role("tab", name="Verdict").click()
    expect(page.get_by_role("cell", name="linearizability")).to_be_visible(timeout=WITHIN_MS)
    wait_until(lambda: "VERDICT\tVALID" in page.get_by_role("table").inner_text(), "the verdict in the tab")
    seen.verdict_tab = page.get_by_role("table").inner_text()
    keep(page, "tab-verdict")
    page.get_by_role("link", name="Live page").click()
    page.get_by_role("link", name="Report").click()
    page.wait_for_load_state()
    seen.report = page.locator("body").inner_text()
    keep(page, "report")


def leave_while_the_verdict_comes(page: Page, address: str, seen: Story) -> None:
    final = False
    page.route("**/swarmproof/standing", lambda route: route.fulfill(json={"verdict": "valid", "final": final}))
    page.goto(f"{address}/?tab=swarmproof-verdict")
    expect(page.get_by_role("link", name="Live page")).to_have_text("Live page: valid")
    page.evaluate("window.loaded_once = true; dispatchEvent(new Event('beforeunload'))")  # a link was followed
    final = True
    for _ in range(2):
        with page.expect_response("**/swarmproof/standing"):
            pass
    seen.stayed = bool(page.evaluate("window.loaded_once"))
    page.close()


def start_again(page: Page, address: str, seen: Story) -> None:
    page.goto(address)
    page.get_by_role("button", name="New").click()
    page.get_by_text("Custom parameters").click()
    page.get_by_label("Threshold").fill("p99{kv append}<60s; rate>1")
    page.get_by_role("button", name="Start").click()
    first = seen.judged["run"]
    wait_until(lambda: live(address)["run"] != first and live(address)["total"]["count"] > 30, "the second test")
    page.get_by_role("button", name="Stop").click()
    wait_until(lambda: live(address)["report"], "the second verdict", 90.0)
    seen.second = live(address)


def test_before_a_test_the_page_says_so_and_shows_the_nodes(story: Story) -> None:
    assert story.before["standing"]["verdict"] == "no run yet"
    assert [node["name"] for node in story.before["nodes"]] == ["n1", "n2", "n3"]


def test_the_start_form_has_all_options_but_the_supervisors(story: Story) -> None:
    text = "\n".join(story.fields)
    for option in (
        "Arrivals",
        "Depth",
        "Engine",
        "Keys",
        "Max Lateness",
        "Rate",
        "Stale Reads",
        "Threshold",
        "Timeout",
    ):
        assert option in text
    assert "Run Dir" not in text  # the supervisor has told where the records go


def test_the_percentiles_tab_has_response_and_service_time_in_microseconds(story: Story) -> None:
    assert "p99.99 (µs)" in story.percentiles
    row = re.search(r"kv append\tresponse\t(.*)", story.percentiles)
    assert row
    assert int(row[1].split("\t")[4]) > 100  # a commit takes longer than a tenth of a millisecond
    assert "kv append\tservice" in story.percentiles


def test_killing_asks_first_and_escape_is_no(story: Story) -> None:
    assert re.search(r"Kill the leader \(now n\d\)\?", story.dialog)
    assert story.focused == "Cancel"
    assert story.after_escape == []


def test_the_leader_is_killed_by_keyboard_and_the_page_says_what_was_seen(story: Story) -> None:
    assert re.fullmatch(r"kill (n\d): \1 is gone: it was killed by SIGKILL", story.said)
    assert story.faults[0].took_effect


def test_the_chart_shows_the_fault_as_a_band_and_the_leaders_as_a_ribbon(story: Story) -> None:
    assert story.bands == 1
    leaders = [text for text in story.ribbon if re.fullmatch(r"n\d leads term \d+", text)]
    assert len(set(leaders)) >= 2


def test_the_faults_tab_has_nodes_leader_and_availability(story: Story) -> None:
    assert re.search(r"now\tleader\tn\d\tn\d leads term \d", story.faults_tab)
    assert re.search(r"now\traft\tn1\t(leader|follower)? ?.*(running|exited)", story.faults_tab)
    killed = re.search(r"\d\ss\tkill\tn\d\t.*SIGKILL.*", story.faults_tab)
    assert killed
    assert len(re.findall(r"\d\.\d\d\ss\b", killed[0])) >= 2  # new leader, first acknowledged write


def test_partition_is_off_without_links_and_the_page_says_why(story: Story) -> None:
    assert story.partition == (
        True,
        "Partition needs links between the nodes: set `links = true` in the plan's [[target]].",
    )


def test_the_chart_can_be_read_off_by_keyboard(story: Story) -> None:
    assert re.match(r"\d+ s: p50 [\d.]+ .*; \d+ ok, \d+ failed, \d+ unknown, \d+ dropped a second", story.readout)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_in_both_themes(story: Story, theme: str) -> None:
    assert story.faint[theme] == []


def test_a_screen_reader_finds_landmarks_headings_and_names(story: Story) -> None:
    assert story.nameless == []
    for part in ("banner:", "main:", 'navigation "Locust":', 'heading "swarmproof" [level=1]', 'button "Kill"'):
        assert part in story.outline
    for part in ('combobox "Target"', 'combobox "Healed after"', 'region "Nodes"', "- status:", "columnheader"):
        assert part in story.outline
    assert re.search(r'img "Response time', story.outline)


def test_a_server_that_is_gone_is_announced_and_the_page_recovers(story: Story) -> None:
    assert "does not answer" in story.lost
    assert "Reconnecting" in story.lost
    assert story.lost.endswith(" off")
    assert story.recovered


def test_two_people_who_press_kill_at_once_both_get_a_sentence(story: Story) -> None:
    assert len(story.at_once) == 2
    for status, reply in story.at_once:
        assert status in (200, 409)
        assert "Traceback" not in str(reply)
        assert "is gone" in reply.get("said", "") or "is under way" in reply.get("error", "")
    assert 200 in [status for status, _ in story.at_once]


def test_unknown_faults_targets_and_durations_get_one_sentence(story: Story) -> None:
    sentences = [reply["error"] for status, reply in story.unknown if 400 <= status < 500]
    assert len(sentences) == len(story.unknown)
    for part, sentence in zip(
        ("there is no action 'burn'", "there is no 'n9' here", "soon", "name a target", "links", "not a JSON object"),
        sentences,
        strict=True,
    ):
        assert part in sentence
        assert "Traceback" not in sentence


def test_a_page_of_another_site_cannot_break_anything(story: Story) -> None:
    status, reply = story.foreign
    assert status == 403
    assert "elsewhere.example" in reply["error"]


def test_when_the_test_has_ended_it_is_judged_and_the_report_can_be_opened(story: Story) -> None:
    assert story.judged["standing"]["verdict"] == "valid"
    assert "VERDICT\tVALID" in story.verdict_tab
    assert re.search(r"linearizability\tvalid\tlinearizable: ", story.verdict_tab)
    assert "VALID" in story.report
    assert "Three nodes under the web UI" in story.report


def test_a_page_that_is_being_left_is_not_loaded_again(story: Story) -> None:
    """Locust's page loads itself again when the verdict has come: whoever follows a link just then would stay."""
    assert story.stayed


def test_the_next_test_has_a_run_directory_and_a_verdict_of_its_own(story: Story) -> None:
    assert story.second["run"] != story.judged["run"]
    assert story.second["faults"] == []
    because = {name: because for name, _, because, _ in story.second["standing"]["checks"]}
    assert because["thresholds"] == "2 of 2 thresholds kept"  # those of the form, judged by the supervisor
    assert story.runs == ["valid", "valid"]
    assert story.code == 0, story.log


def test_the_console_of_the_browser_has_no_errors(story: Story) -> None:
    assert story.complaints == []
