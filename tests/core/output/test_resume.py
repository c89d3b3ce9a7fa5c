import errno
import json
from pathlib import Path

import pytest
from small_output import (
    DATA,
    FACTS,
    LAYOUT,
    SIDE_FILES,
    TENSORS,
    Options,
    contents,
    interrupted,
    make,
    merged,
    opened,
    staging,
)

from mergecore.errors import InputError, OutputError
from mergecore.output import journal
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.output.storages.folder import Stage
from mergecore.types import Json, StepResult, Written
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_resumed_merge_keeps_what_is_done_and_has_the_same_bytes(out: Path, tmp_path: Path) -> None:
    interrupted(out, "c", "a")
    with opened(out, mode="resume") as output:
        assert sorted(output.done) == ["a", "c"]
        assert output.damaged == ()
        make(output, "b")
        output.seal(SIDE_FILES, FACTS)
    assert contents(out) == merged(tmp_path / "uninterrupted")


def test_counts_of_numbers_that_are_not_finite_survive_an_interruption(out: Path) -> None:
    with opened(out) as output:
        output.write("a", 0, DATA["a"])
        output.finish(StepResult("a", (Written("a", tensor_digest([block_digest(DATA["a"])]), 4, 3),)))
    merged(out, mode="resume")
    assert json.loads((out / "mergecore-manifest.json").read_bytes())["nonfinite"] == {"a": 3}


def test_to_resume_where_nothing_is_begins_afresh(out: Path) -> None:
    assert "config.json" in merged(out, mode="resume")


def test_a_partial_run_is_refused_unless_one_says_what_to_do_with_it(out: Path) -> None:
    interrupted(out, "a", "b")
    with pytest.raises(OutputError) as caught:
        opened(out)
    assert caught.value.code == "E507"
    assert str(caught.value) == (
        f"{out}: a partial run exists (2 of 3 tensors, the same plan). "
        "Hint: --resume to go on, --restart to throw it away"
    )
    assert merged(out, mode="restart") == merged(out)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_stopped_before_its_first_tensor_is_in_nobodys_way(out: Path, seed: int) -> None:
    interrupted(out)
    with opened(out, seed=seed) as output:
        assert not output.done


def test_a_partial_run_of_another_plan_is_refused_with_the_differences(out: Path) -> None:
    interrupted(out, "a")
    with pytest.raises(OutputError) as caught:
        opened(out, seed=2)
    assert caught.value.code == "E507"
    assert "a partial run of another plan exists (1 of 3 tensors); it differs in seed: 1 → 2" in str(
        caught.value
    )


def test_to_resume_another_plan_is_refused_with_the_differences(out: Path) -> None:
    files: list[Json] = [{"name": "x.safetensors", "size": 1}, {"name": "y.safetensors", "size": 2}]
    identity: dict[str, Json] = {
        "seed": 1,
        "models": [{"reference": "m/a", "files": files}],
        "tags": ["x"],
        "note": "n",
    }
    with Stage.open(out, LAYOUT, TENSORS, identity) as output:
        make(output, "a")
    models: list[Json] = [{"reference": "m/a", "files": [files[0], {"name": "y.safetensors", "size": 3}]}]
    identity |= {"models": models, "tags": ["x", "y"], "seed": True, "note": "m"}
    with pytest.raises(OutputError) as caught:
        Stage.open(out, LAYOUT, TENSORS, identity, mode="resume")
    assert caught.value.code == "E507"
    assert (
        "the partial run is of another plan; it differs in seed: 1 → true, "
        'm/a/y.safetensors (2 bytes then, 3 now), tags: ["x"] → ["x", "y"] and 1 more. '
        "Hint: --restart to throw it away, or choose another output folder"
    ) in str(caught.value)


def test_another_layout_is_another_plan(out: Path) -> None:
    interrupted(out, "a")
    layout = lay_out(TENSORS, SafetensorsParams())
    with pytest.raises(OutputError, match=r"it differs in layout\.files: "):
        Stage.open(out, layout, TENSORS, {"seed": 1}, mode="resume")


def test_a_plan_that_cannot_be_read_is_another_plan(out: Path) -> None:
    interrupted(out, "a")
    (staging(out) / ".work" / "plan.json").write_text("{")
    with pytest.raises(OutputError, match="it differs in everything"):
        opened(out, mode="resume")


def test_a_run_that_finished_no_tensor_leaves_nothing(out: Path) -> None:
    interrupted(out)
    assert list(out.parent.iterdir()) == []


def test_a_finished_model_of_the_same_plan_is_all_there_is_to_do(out: Path) -> None:
    files = merged(out)
    welcome: list[Options] = [
        {},
        {"mode": "resume"},
        {"mode": "restart"},
        {"mode": "resume", "overwrite": True},
    ]
    for options in welcome:
        with opened(out, **options) as output:
            assert output.complete
    assert contents(out) == files


def test_a_finished_model_that_lost_a_file_is_not_taken_for_complete(out: Path) -> None:
    merged(out)
    (out / "config.json").unlink()
    with pytest.raises(OutputError, match=r"config\.json: missing") as caught:
        opened(out)
    assert caught.value.code == "E508"


def test_what_an_interrupted_sealing_left_is_not_published(out: Path) -> None:
    with opened(out) as output:
        make(output, "a", "b", "c")
        with pytest.raises(InputError, match="cannot be read"):
            output.seal({"old/file": b"", "old.txt": b"", "missing": out / "missing"}, FACTS)
    with opened(out, mode="resume") as output:
        output.seal(SIDE_FILES, FACTS)
    assert contents(out) == merged(out.with_name("good"))
    assert not (out / "old").exists()


def test_what_an_interrupted_end_left_beside_a_complete_model_is_removed(out: Path) -> None:
    merged(out)
    work = staging(out) / ".work"
    work.mkdir(parents=True)
    (work / "journal").touch()
    with opened(out) as output:
        assert output.complete
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_complete_model_waiting_for_its_place_is_put_there(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(places: object, *, overwrite: bool) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr("mergecore.output.staging.publish", fail)
        with pytest.raises(OutputError, match="completing the output failed: broken"):
            merged(out)
    assert not out.exists()
    with opened(out, mode="resume") as output:
        assert output.complete
    assert sorted(output.done) == ["a", "b", "c"]
    assert (out / "config.json").exists()


# ---- damage ------------------------------------------------------------------------------------------------
def overwrite_bytes(out: Path, name: str) -> None:
    slot = LAYOUT.slots[name]
    with (staging(out) / "model" / LAYOUT.files[slot.file].name).open("r+b") as file:
        file.seek(slot.offset)
        file.write(b"!")


def test_bytes_lost_when_the_machine_went_down_are_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = merged(out.with_name("good"))
    interrupted(out, "a", "b", "c")
    overwrite_bytes(out, "b")
    (out.parent / "boot").write_text("another\n")
    monkeypatch.setattr(journal, "_BOOT_ID", out.parent / "boot")
    with opened(out, mode="resume") as output:
        assert output.damaged == ("b",)
        assert sorted(output.done) == ["a", "c"]
        make(output, "b")
        output.seal(SIDE_FILES, FACTS)
    assert contents(out) == good


def test_damage_is_looked_for_when_asked(out: Path) -> None:
    interrupted(out, "a", "b")
    overwrite_bytes(out, "a")
    with opened(out, mode="resume", recheck=True) as output:
        assert output.damaged == ("a",)
    with opened(out, mode="resume") as output:  # it is remembered
        assert sorted(output.done) == ["b"]


def test_tensors_of_a_file_that_is_gone_are_not_done_now_or_later(out: Path) -> None:
    interrupted(out, "a", "c")
    (staging(out) / "model" / LAYOUT.files[0].name).unlink()
    for damaged in (("a",), ()):
        with opened(out, mode="resume") as output:
            assert output.damaged == damaged
            assert sorted(output.done) == ["c"]


def test_a_model_that_waited_for_its_place_and_is_damaged_does_not_count_as_complete(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mergecore.output.staging.publish", lambda places, overwrite: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merged(out)
    overwrite_bytes(out, "c")
    with opened(out, mode="resume", recheck=True) as output:
        assert not output.complete
    assert not out.exists()
    assert merged(out, mode="resume") == merged(out.with_name("good"))


def test_a_torn_line_of_the_journal_and_what_follows_it_do_not_count(out: Path) -> None:
    interrupted(out, "a", "b")
    path = staging(out) / ".work" / "journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[2][:-9] + b"\n")
    with opened(out, mode="resume") as output:
        assert len(output.done) == 1
        make(output, *(DATA.keys() - output.done.keys()))
    with opened(out, mode="resume") as output:
        assert len(output.done) == 3


def test_a_damaged_line_of_the_journal_is_noticed_by_its_checksum(out: Path) -> None:
    interrupted(out, "a")
    path = staging(out) / ".work" / "journal"
    path.write_bytes(path.read_bytes().replace(b'"t":"a"', b'"t":"b"'))
    with opened(out, mode="resume") as output:
        assert output.done == {}
