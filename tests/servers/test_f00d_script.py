"""Scripts: what each step does and when the next one comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.f00d.script import BadScript, Mode, Script, Step, parse_script


def taken(script: Script, number: int) -> list[str]:
    return [script.take().mode.value for _ in range(number)]


def test_last_step_stays() -> None:
    script = Script(parse_script("DISCONNECT,SUCCESS"))
    assert taken(script, 4) == ["DISCONNECT", "SUCCESS", "SUCCESS", "SUCCESS"]
    assert script.remaining() == ["SUCCESS"]


def test_step_with_times_is_taken_so_often() -> None:
    script = Script(parse_script("success*2,timeout,delay:0.5"))
    assert script.remaining() == ["SUCCESS*2", "TIMEOUT", "DELAY:0.5"]
    assert taken(script, 1) == ["SUCCESS"]
    assert script.remaining() == ["SUCCESS", "TIMEOUT", "DELAY:0.5"]
    assert taken(script, 4) == ["SUCCESS", "TIMEOUT", "DELAY", "DELAY"]


def test_reject_takes_seconds_and_may_be_last_without() -> None:
    assert parse_script("REJECT:0.5,REJECT") == [Step(Mode.REJECT, 0.5), Step(Mode.REJECT)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "SUCCESS,",
        "OOPS",
        "DELAY:",
        "DELAY:1.2.3",
        "SUCCESS*",
        "SUCCESS*-1",
        "REJECT,SUCCESS",
        "REJECT:1*2,SUCCESS",
        "TIMEOUT:1",
        "SUCCESS*99999999999999999999",
    ],
)
def test_wrong_script_is_refused(text: str) -> None:
    with pytest.raises(BadScript):
        parse_script(text)


@given(st.text(alphabet="SUCESDELAYTIMOURJ,:*0123456789. ", max_size=60))
def test_any_text_is_a_script_or_a_bad_script(text: str) -> None:
    try:
        steps = parse_script(text)
    except BadScript:
        return
    assert parse_script(",".join(map(str, steps))) == steps
