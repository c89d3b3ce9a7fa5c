import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_output import LAYOUT, merged

from mergecore.errors import MergecoreError
from mergecore.output.resume import described
from mergecore.output.storages.folder import Stage
from mergecore.output.target import check_target
from mergecore.types import OutputTensor, StepResult, Written
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def refusal(target: Path, *inputs: Path, overwrite: bool = False, nbytes: int = 0) -> str:
    with pytest.raises(MergecoreError) as caught:
        check_target(target, inputs, overwrite, nbytes=nbytes)
    return f"{caught.value.code} {caught.value}"


def test_a_folder_that_is_not_empty_is_refused(out: Path) -> None:
    out.mkdir()
    (out / "x").touch()
    assert refusal(out) == (
        f"E501 {out}: the output folder is not empty. "
        "Hint: choose another output folder (--overwrite replaces finished merges only)"
    )
    assert refusal(out, overwrite=True).startswith(
        f"E501 {out}: the output folder holds no mergecore-manifest.json: --overwrite replaces finished merges only"
    )


def test_a_folder_that_cannot_be_read_is_told(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> Iterator[Path]:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    out.mkdir()
    monkeypatch.setattr(Path, "iterdir", denied)
    assert refusal(out).startswith(f"E505 {out}: reading the output folder failed: Permission denied")


def test_another_merge_is_replaced_only_when_told_so(out: Path) -> None:
    merged(out, seed=2)
    assert refusal(out) == (
        f"E501 {out}: the output folder is not empty: it holds another merge. "
        "Hint: choose another output folder, or --overwrite to replace it"
    )
    files = merged(out, overwrite=True)
    assert files == merged(out.with_name("other"))
    assert sorted(path.name for path in out.parent.iterdir()) == ["other", "out"]


def test_to_overwrite_the_same_merge_makes_it_again(out: Path) -> None:
    files = merged(out)
    (out / "model.safetensors.index.json").write_text("damaged")
    assert merged(out, overwrite=True) == files


def test_a_file_or_a_link_is_refused(out: Path) -> None:
    out.touch()
    assert "E501" in refusal(out)
    assert "the output exists and is not a directory" in refusal(out)
    link = out.with_name("link")
    link.symlink_to("nowhere")
    assert "E501" in refusal(link)
    assert "the output folder is a symbolic link. Hint: give the folder it should point to" in refusal(link)


def test_an_input_its_inside_and_its_outside_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "models" / "a"
    model.mkdir(parents=True)
    (tmp_path / "link").symlink_to(model)
    assert refusal(model, tmp_path / "link").startswith(f"E502 {model}: the output folder is the input model")
    assert f"E502 {model / 'new'}: the output folder is inside the input model {model}" in refusal(
        model / "new", model
    )
    assert "the output folder contains the input model" in refusal(tmp_path / "models", model)


def test_a_model_that_is_the_current_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"the output folder is inside the input model {tmp_path}. Hint" in refusal(Path("out"), Path())


def test_a_small_disk_is_refused(out: Path) -> None:
    assert refusal(out, nbytes=10**18).startswith(f"E503 {out}: the weights need 1e+06 TB, the disk has ")


def test_a_result_that_is_there_already_needs_no_space(out: Path) -> None:
    merged(out)
    plan = described({"seed": 1}, LAYOUT)
    check_target(out, [], False, nbytes=10**18, plan=plan)
    with pytest.raises(MergecoreError, match="the disk has"):
        check_target(out, [], True, nbytes=10**18, plan=plan)


def test_what_an_earlier_run_has_reserved_counts_as_free(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [OutputTensor("t", "U8", (1_000_000,))]
    layout = lay_out(tensors, SafetensorsParams())
    with Stage.open(out, layout, tensors, {}) as output:
        output.write("t", 0, bytes(1_000_000))
        output.finish(StepResult("t", (Written("t", "0" * 64, 1_000_000),)))
    status = list(os.statvfs(out.parent))
    status[4] = 0  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(status))
    check_target(out, [], False, nbytes=900_000)


def test_a_parent_that_cannot_be_written_or_is_a_file_is_refused(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.touch()
    assert refusal(out / "deeper").startswith(f"E505 {out / 'deeper'}: {out} is not a directory")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"no permission to write in {out.parent}" in refusal(out.parent / "new")


def test_a_mount_point_and_the_current_folder_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(out)
        assert "E505" in refusal(Path())
        assert "the output folder is the current folder" in refusal(Path())
    monkeypatch.setattr(Path, "is_mount", lambda path: path == out)
    assert "E505" in refusal(out)
    assert f"Hint: choose a folder inside it, such as {out / 'merged'}" in refusal(out)
