"""Where a callback writes its average: every way to write the step, before a run of hours."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergecore import ConfigError, OutputError
from mergecore_plugins.averaging.callbacks.target import check_name, check_target

WAYS = {
    "averaged": "averaged",
    "average-{step}": "average-12",
    "average-{step:05d}": "average-00012",
    "{{a}}-{step:>4}": "{a}-  12",
    "{step:x}.{step:,}": "1f4a.8,010",
    "{step!s:_<4}of": "12__of",
    "at-{step}/averaged": "at-12/averaged",
    "at-{step:+}/{step:.1f}": "at-+12/12.0",
}
"""Names, and what the average of a step is called, or could be as far as its letters tell."""


@pytest.mark.parametrize(("out", "there"), WAYS.items())
def test_what_an_average_would_replace_is_said_before(out: str, there: str, tmp_path: Path) -> None:
    check_name(out)
    check_target(tmp_path, out, lambda found: False)
    (tmp_path / there).mkdir(parents=True)
    (tmp_path / "average-of-mine").mkdir()
    with pytest.raises(OutputError, match="exists, and is not an average that could be replaced") as caught:
        check_target(tmp_path, out, lambda found: False)
    assert caught.value.code == "E501"
    assert str(tmp_path / there) in str(caught.value)
    check_target(tmp_path, out, lambda found: found == tmp_path / there)


@pytest.mark.parametrize(
    "out", ["a-{step:05d}", "{step:x}", "{step!r:>6}", "{{x}}{step:,}/{step}", "0{step:_b}"]
)
@pytest.mark.parametrize("step", [1, 7, 10, 255, 4096, 48_879, 1_234_567_890])
def test_the_average_of_any_step_is_found(out: str, step: int, tmp_path: Path) -> None:
    (tmp_path / out.format(step=step)).mkdir(parents=True)
    with pytest.raises(OutputError):
        check_target(tmp_path, out, lambda found: False)


@pytest.mark.parametrize(
    "out",
    [
        "{step:05q}",
        "{step:{step}}",
        "{step:c}",
        "{step:/>5}",
        "{step:>5000}",
        "{step.real}",
        "{stpe:3}",
        "{step!x}",
    ],
)
def test_what_cannot_name_an_average_is_said_before(out: str) -> None:
    with pytest.raises(ConfigError, match=r"has braces that are not '\{step\}'") as caught:
        check_name(out)
    assert caught.value.code == "E105"


def test_run_folders_may_have_braces(tmp_path: Path) -> None:
    run = tmp_path / "{step}{"
    (run / "averaged").mkdir(parents=True)
    with pytest.raises(OutputError):
        check_target(run, "averaged", lambda found: False)
    check_target(run, "averaged-{step}", lambda found: False)
