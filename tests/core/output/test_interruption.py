import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_output import contents, make, merged, opened, staging

from mergecore.errors import OutputError

SCRIPT = Path(__file__).parents[2] / "interrupted_merge.py"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@dataclass(frozen=True)
class Findings:
    """What the script found: how often the target was in which state, how often the next run mended it."""

    states: set[str]
    by: dict[str, dict[str, int]]


@pytest.fixture(
    scope="module",
    params=[
        ("fresh", {"before", "new"}),
        ("restart", {"before", "new"}),
        ("overwrite", {"before", "new"}),
        ("two-step", {"before", "new", "absent"}),
    ],
    ids=lambda scenario: scenario[0],
)
def findings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    scenario, states = request.param
    memory = Path("/dev/shm")  # noqa: S108 - a mount point; hundreds of merges run there
    fast = memory if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        command = [sys.executable, str(SCRIPT), scenario, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Findings(states, json.loads(done.stdout))


def test_killed_at_any_call_the_target_is_old_or_complete_and_resumes_to_the_same_bytes(
    findings: Findings,
) -> None:
    found = findings.by["kill"]
    assert found.keys() == findings.states | {"resumed"}
    assert found["resumed"] > 40


def test_whichever_call_fails_the_target_is_old_or_complete_and_resumes_to_the_same_bytes(
    findings: Findings,
) -> None:
    found = findings.by["fail"]
    assert found.keys() - {"E503", "E508", "no error"} == findings.states | {"resumed", "E504"}
    assert found.get("no error", 0) < 6  # a folder that is there already, a plan that cannot be read


def test_after_a_power_cut_the_target_is_old_or_complete_and_resumes_to_the_same_bytes(
    findings: Findings,
) -> None:
    found = findings.by["cut"]
    assert found.keys() - {"absent"} == findings.states - {"absent"} | {"resumed"}
    assert "absent" in findings.states or "absent" not in found


def test_a_disk_that_ignores_syncs_loses_data_so_the_test_above_tests_something(findings: Findings) -> None:
    found = findings.by["cut without sync"]
    assert found["not resumed"]
    assert found["lost at the end"]


def test_a_second_process_is_told_who_writes(out: Path) -> None:
    command = [sys.executable, str(SCRIPT), "hold", str(out.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "holding\n"
        with pytest.raises(OutputError) as caught:
            opened(out)
        process.communicate()
    assert caught.value.code == "E506"
    assert f"another merge is writing this output: process {process.pid} on " in str(caught.value)
    assert "Hint: wait for it or stop it, or choose another output folder" in str(caught.value)
    assert "config.json" in merged(out)


def test_a_second_writer_on_a_disk_without_locks_is_noticed_by_the_journal(out: Path) -> None:
    output = opened(out)
    make(output, "a")
    with (staging(out) / ".work" / "journal").open("ab") as file:
        file.write(b"something\n")
    with pytest.raises(OutputError) as caught:
        output.close()
    assert caught.value.code == "E506"
    assert "another process writes the same output. Hint: stop it, then run again" in str(caught.value)


def test_a_complete_model_that_another_process_is_just_tidying_is_complete(out: Path) -> None:
    merged(out)
    files = contents(out)
    with opened(out, overwrite=True), opened(out) as output:
        assert output.complete
    assert contents(out) == files


def test_a_staging_folder_that_is_a_link_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    staging(out).symlink_to("elsewhere")
    with pytest.raises(OutputError, match="the staging folder is a symbolic link"):
        opened(out)
    assert list((tmp_path / "elsewhere").iterdir()) == []
