"""What somebody else put where a merge works is never followed, written over, published or removed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refusal
from small_output import LAYOUT, contents, interrupted, merged, opened, staging

from mergecore.errors import MergecoreError, OutputError
from mergecore.output import replacing
from mergecore.output import staging as staging_module
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.output.storages.folder import Stage

FIRST = LAYOUT.files[0].name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "shared" / "out"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of the user with a file that a planted link leads to."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "diary").write_text("dear diary")
    (folder / "lock").write_text("my lock")
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, target: Path) -> None:
    shutil.copytree(target.parent, path)


KINDS: dict[Callable[[Path, Path], None], str] = {
    link: "is a symbolic link",
    hard_link: "is a file with a second name elsewhere, a hard link",
    pipe: "is a pipe",
    folder: "is a folder",
}


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("mode", ["new", "resume", "restart"])
@pytest.mark.parametrize("name", ["lock", "plan.json", "plan.json.tmp", "journal", "swap", "swap.tmp"])
def test_nothing_planted_among_the_notes_of_a_merge_is_used(
    name: str, mode: str, plant: Callable[[Path, Path], None], out: Path, precious: Path
) -> None:
    before = everything(precious)
    interrupted(out, "a")
    path = staging(out) / ".work" / name
    path.unlink(missing_ok=True)
    plant(path, precious / "diary")

    said = refusal(lambda: merged(out, mode=mode))  # type: ignore[arg-type]

    assert said.startswith(f"E509 {path}: '{name}' in the staging folder {KINDS[plant]}")
    assert "Hint: find out who put it there; then remove the staging folder" in said
    assert everything(precious) == before
    assert not out.exists()


@pytest.mark.parametrize("name", [".work", "model", "old"])
@pytest.mark.parametrize("mode", ["new", "resume", "restart"])
@pytest.mark.parametrize("plant", [link, pipe, lambda path, target: path.write_text("x")])
def test_no_folder_of_a_merge_is_reached_through_something_else(
    name: str, mode: str, plant: Callable[[Path, Path], None], out: Path, precious: Path
) -> None:
    before = everything(precious)
    interrupted(out, "a")
    path = staging(out) / name
    if path.exists():
        path.rename(precious.parent / "moved")
    plant(path, precious)
    assert refusal(lambda: merged(out, mode=mode)).startswith(f"E509 {path}: '{name}' in the staging")  # type: ignore[arg-type]
    assert everything(precious) == before
    assert not out.exists()


@pytest.mark.parametrize("plant", [link, hard_link, pipe])
@pytest.mark.parametrize("mode", ["new", "resume", "restart"])
def test_a_planted_file_of_weights_is_neither_written_nor_published(
    mode: str, plant: Callable[[Path, Path], None], out: Path, precious: Path
) -> None:
    interrupted(out, "a", "c")
    path = staging(out) / "model" / FIRST
    (precious / "diary").write_bytes(path.read_bytes())
    before = everything(precious)
    path.unlink()
    plant(path, precious / "diary")
    if mode == "restart":  # what is thrown away is unlinked, not followed
        assert merged(out, mode="restart") == merged(out.with_name("good"))
    elif mode == "resume":
        assert refusal(lambda: merged(out, mode="resume")).startswith(
            f"E509 {path}: '{FIRST}' in the staging"
        )
        assert not out.exists()
    else:
        assert refusal(lambda: merged(out)).startswith("E507 ")
    assert everything(precious) == before


@pytest.mark.parametrize("plant", [link, hard_link, pipe])
@pytest.mark.parametrize("name", [MANIFEST, f"{MANIFEST}.tmp", "config.json", "deep", "notes"])
def test_what_is_planted_beside_the_weights_is_not_published(
    name: str, plant: Callable[[Path, Path], None], out: Path, precious: Path
) -> None:
    before = everything(precious)
    interrupted(out, "a")
    plant(staging(out) / "model" / name, precious if name == "deep" and plant is link else precious / "diary")
    try:
        files = merged(out, mode="resume")
    except OutputError as error:
        assert error.code == "E509"  # noqa: PT017 - refused or mended, either will do
        assert not out.exists()
    else:
        assert files == merged(out.with_name("good"))
        assert not any(path.is_symlink() for path in out.rglob("*"))
    assert everything(precious) == before


@pytest.mark.parametrize("text", ["{}", "", "[]", '{"format": "mergecore-manifest/1"}'])
@pytest.mark.parametrize("done", [(), ("a",), ("a", "b", "c")])
def test_a_manifest_that_says_nothing_does_not_make_a_model_complete(
    text: str, done: tuple[str, ...], out: Path
) -> None:
    interrupted(out, *done)
    (staging(out) / "model").mkdir(parents=True, exist_ok=True)
    (staging(out) / "model" / MANIFEST).write_text(text)
    with opened(out, mode="resume") as output:
        assert not output.complete
        assert not out.exists()
    assert merged(out, mode="resume") == merged(out.with_name("good"))


def test_the_manifest_of_another_merge_does_not_make_a_model_complete(out: Path) -> None:
    merged(out.with_name("other"), seed=2)
    interrupted(out, "a", "b", "c")
    for path in out.with_name("other").iterdir():
        shutil.copy(path, staging(out) / "model")
    with opened(out, mode="resume") as output:
        assert not output.complete
    assert merged(out, mode="resume") == merged(out.with_name("good"))


def test_a_complete_model_with_a_further_file_is_sealed_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mergecore.output.staging.publish", lambda places, overwrite: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merged(out)
    (staging(out) / "model" / "backdoor.py").write_text("import os")
    assert merged(out, mode="resume") == merged(out.with_name("good"))


# ---- whose folder it is ------------------------------------------------------------------------------------


def test_nobody_else_may_enter_the_staging_folder_and_the_model_has_the_usual_mode(out: Path) -> None:
    before = os.umask(0o002)
    try:
        with opened(out):
            assert stat.S_IMODE(staging(out).stat().st_mode) == 0o700
            assert stat.S_IMODE((staging(out) / "model").stat().st_mode) == 0o775
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_staging_folder_that_others_may_write_in_is_refused(mode: int, out: Path) -> None:
    interrupted(out, "a")
    staging(out).chmod(mode)
    said = refusal(lambda: merged(out, mode="resume"))
    assert said.startswith(
        f"E509 {staging(out)}: the staging folder is a folder that other users may write in, "
    )
    assert [path.name for path in out.parent.iterdir()] == [staging(out).name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize("name", ["", ".work", ".work/journal", "model", f"model/{FIRST}"])
def test_what_belongs_to_another_user_is_refused(name: str, out: Path) -> None:
    interrupted(out, "a")
    os.chown(staging(out) / name, 12345, -1)
    said = refusal(lambda: merged(out, mode="resume"))
    assert said.startswith(f"E509 {staging(out) / name}: ")
    assert (" of user 12345" if name else "the staging folder is a folder of user 12345") in said


def test_where_the_system_knows_no_owners_a_new_folder_tells_what_ours_looks_like(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)  # as if all files belonged to one user of the disk
    interrupted(out, "a")
    with opened(out, mode="resume") as output:
        assert sorted(output.done) == ["a"]


def test_another_folder_of_ours_that_was_moved_there_is_left_alone(out: Path, precious: Path) -> None:
    out.parent.mkdir()
    before = everything(precious)
    precious.rename(staging(out))
    assert refusal(lambda: merged(out)).startswith(
        f"E509 {staging(out)}/diary: 'diary' in the staging folder is not part of a merge"
    )
    assert everything(staging(out)) == before


# ---- during the run ----------------------------------------------------------------------------------------


def finish(output: Stage) -> None:
    from small_output import FACTS, SIDE_FILES, make

    make(output, "a", "b", "c")
    output.seal(SIDE_FILES, FACTS)


def test_a_staging_folder_that_is_exchanged_during_the_run_is_not_written_to(
    out: Path, precious: Path
) -> None:
    before = everything(precious)
    with opened(out) as output:
        staging(out).rename(out.with_name("taken"))
        staging(out).symlink_to(precious)
        with pytest.raises(MergecoreError):
            finish(output)
    assert everything(precious) == before
    assert not out.exists()


def test_a_link_that_is_put_at_the_target_during_the_run_is_not_followed(out: Path, precious: Path) -> None:
    before = everything(precious)
    with opened(out, overwrite=True) as output:
        out.symlink_to(precious)
        with pytest.raises(OutputError, match="something was put there while the model was made"):
            finish(output)
    assert out.is_symlink()
    assert everything(precious) == before


# ---- what may be replaced ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", "", '{"format": "something-else/1", "files": []}'])
def test_a_file_of_the_name_of_a_manifest_makes_no_folder_replaceable(text: str, out: Path) -> None:
    out.mkdir(parents=True)
    (out / MANIFEST).write_text(text)
    (out / "thesis.tex").write_text("years of work")
    said = refusal(lambda: merged(out, overwrite=True))
    assert said == (
        f"E501 {out}: the {MANIFEST} in it is not that of a merge: --overwrite replaces finished merges only. "
        "Hint: choose another output folder"
    )
    assert (out / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("exchange", [True, False])
def test_files_that_are_not_of_the_merge_are_named_and_kept(
    exchange: bool, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr("mergecore.files.durable.exchange", lambda one, other: False)
    merged(out, seed=2)
    (out / "notes.txt").write_text("mine")
    (out / "runs" / "1").mkdir(parents=True)
    (out / "runs" / "1" / "log").write_text("log")
    (out / "link").symlink_to("notes.txt")
    with opened(out, overwrite=True) as output:
        finish(output)
        assert output.kept == ("link", "notes.txt", "runs")
    files = contents(out)
    assert {name: files.pop(name) for name in ("notes.txt", "runs/1/log", "link")} == {
        "notes.txt": b"mine",
        "runs/1/log": b"log",
        "link": b"mine",
    }
    assert files == merged(out.with_name("good"))
    assert sorted(path.name for path in out.parent.iterdir()) == ["good", "out"]


@pytest.mark.parametrize("exchange", [True, False])
def test_they_are_kept_when_the_replacement_is_interrupted(
    exchange: bool, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr("mergecore.files.durable.exchange", lambda one, other: False)
    merged(out, seed=2)
    (out / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(replacing, "carry_over", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merged(out, overwrite=True)
    assert not (out / "notes.txt").exists()
    with opened(out) as output:
        assert output.complete
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_kept_file_whose_name_is_taken_gets_another(out: Path) -> None:
    merged(out, seed=2)
    manifest = (out / MANIFEST).read_text()
    line = next(line for line in manifest.splitlines() if '"name": "config.json"' in line)
    (out / MANIFEST).write_text(manifest.replace(f",\n{line}", ""))  # a merge without a config.json
    (out / "config.json").write_text("mine")
    with opened(out, overwrite=True) as output:
        finish(output)
        assert output.kept == ("config.json.kept",)
    assert (out / "config.json").read_bytes() == b"{}\n"
    assert (out / "config.json.kept").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["extra.safetensors", "pytorch_model.bin", "model.safetensors.index.json.bin"]
)
def test_weights_of_somebody_else_are_in_the_way(name: str, out: Path) -> None:
    files = merged(out, seed=2)
    (out / name).write_text("x")
    said = refusal(lambda: merged(out, overwrite=True))
    assert said == (
        f"E501 {out}: the output folder holds weights that its merge did not write: {name}. "
        "Hint: move them away, or choose another output folder"
    )
    assert contents(out) == {**files, name: b"x"}


def test_every_descriptor_is_closed(out: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    interrupted(out, "a")
    merged(out, mode="resume")
    merged(out)
    merged(out, seed=2, overwrite=True)
    staging_module.tidy(staging_module.Staging(out))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
