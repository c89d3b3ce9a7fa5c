import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mergecore.errors import MergecoreError, OutputError, Problems
from mergecore.models.safetensors import read_header
from mergecore.output.digests import block_digest, tensor_digest
from mergecore.output.storages.folder import Stage
from mergecore.output.verify import VerifyReport, verify_folder
from mergecore.types import Layout, OutputFile, OutputTensor, Slot, StepResult, Written
from mergecore_plugins.writers.safetensors import SafetensorsParams, lay_out

TENSORS = [OutputTensor("a", "U8", (4,)), OutputTensor("b", "U8", (4,)), OutputTensor("empty", "F32", (0, 2))]
LAYOUT = lay_out(TENSORS, SafetensorsParams(shard_size=4))
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def seal(
    folder: Path, layout: Layout, tensors: list[OutputTensor], writer: str | None = "safetensors"
) -> None:
    with Stage.open(folder, layout, tensors, {}) as output:
        for tensor in tensors:
            data = b"1234"[: layout.slots[tensor.name].nbytes]
            output.write(tensor.name, 0, data)
            digest = tensor_digest([block_digest(data)] if data else [])
            output.finish(StepResult(tensor.name, (Written(tensor.name, digest, len(data)),)))
        output.seal(
            {"config.json": b"{}", "sub/notes": b"text"}, {"format": "mergecore-manifest/1", "writer": writer}
        )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Tensors "a" in the first file, "b" and an empty one in the second, two side files, the index."""
    seal(tmp_path / "model", LAYOUT, TENSORS)
    return tmp_path / "model"


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def differences(folder: Path) -> list[str]:
    with pytest.raises((OutputError, Problems)) as caught:
        verify_folder(folder)
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    assert {error.code for error in errors} == {"E508"}
    assert {type(error) for error in errors} == {OutputError}
    return [str(error) for error in errors]


def test_a_model_as_it_was_written_is_reported_with_what_was_read(model: Path) -> None:
    (model / "eval.txt").write_text("mine")
    size = sum(
        path.stat().st_size
        for path in model.rglob("*")
        if path.name not in ("eval.txt", "mergecore-manifest.json") and path.is_file()
    )
    assert verify_folder(model) == VerifyReport(files=5, tensors=3, nbytes=size, unlisted=("eval.txt",))


@pytest.fixture
def our_reader(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own reader sees the files as they were written, whatever happens to them."""
    known = {path: read_header(path) for path in model.glob("*.safetensors")}
    monkeypatch.setattr("mergecore.models.read_header", lambda path: known[path])


@pytest.mark.usefixtures("our_reader")
def test_a_file_that_the_safetensors_library_reads_otherwise_is_found_without_our_reader(model: Path) -> None:
    edit(model / FIRST, lambda data: data.replace(b'"shape":[4]', b'"shape":[5]'))
    [found] = differences(model)
    assert f"{model / FIRST}: the header is damaged: the safetensors library cannot read it: " in found


@pytest.mark.usefixtures("our_reader")
def test_a_tensor_of_another_dtype_for_the_safetensors_library_is_found(model: Path) -> None:
    edit(model / FIRST, lambda data: data.replace(b'"dtype":"U8"', b'"dtype":"I8"'))
    assert differences(model) == [
        f"{model / FIRST}: the header is damaged: tensor 'a': the safetensors library reads ('I8', (4,)), mergecore "
        "('U8', (4,)). Hint: copy the model again, or merge it again with --overwrite"
    ]


def test_a_flipped_bit_in_a_tensor_is_found(model: Path) -> None:
    edit(model / FIRST, lambda data: data[:-1] + b"5")
    good, bad = (tensor_digest([block_digest(data)]) for data in (b"1234", b"1235"))
    assert differences(model) == [
        f"{model / FIRST}: tensor 'a' is damaged: its digest is {bad}, not {good}. "
        "Hint: copy the model again, or merge it again with --overwrite"
    ]


def test_all_differences_are_told_at_once(model: Path) -> None:
    edit(model / FIRST, lambda data: data[:-1])
    (model / SECOND).unlink()
    edit(model / "config.json", lambda data: b"[]")
    edit(model / "sub" / "notes", lambda data: data + b"!")
    found = differences(model)
    size = LAYOUT.files[0].size
    assert len(found) == 4
    assert f"{model / FIRST}: has {size - 1} bytes, not {size}" in found[0]
    assert f"{model / SECOND}: missing" in found[1]
    assert f"{model / 'config.json'}: its SHA-256 is 4f53cda18c2baa0c" in found[2]
    assert f"{model / 'sub/notes'}: has 5 bytes, not 4" in found[3]


def test_a_header_that_says_something_else_is_told_tensor_by_tensor(model: Path) -> None:
    edit(model / FIRST, lambda data: data.replace(b'"a":{"dtype":"U8"', b'"x":{"dtype":"I8"'))
    start = LAYOUT.slots["a"].offset
    found = differences(model)
    assert f"tensor 'a' is absent in the header, U8 [4] at byte {start} in the manifest" in found[0]
    assert f"tensor 'x' is I8 [4] at byte {start} in the header, absent in the manifest" in found[1]


def test_a_header_that_cannot_be_read_is_told(model: Path) -> None:
    edit(model / FIRST, lambda data: data[:8] + b"[" + data[9:])
    assert "the header is damaged: header " in differences(model)[0]


def test_a_header_of_other_bytes_and_the_same_meaning_is_told(model: Path) -> None:
    edit(model / FIRST, lambda data: data.replace(b'"format":"pt"', b'"format":"np"'))
    assert f"{model / FIRST}: the header differs from the manifest" in differences(model)[0]


def test_files_of_another_format_are_verified_by_their_bytes(tmp_path: Path) -> None:
    layout = Layout((OutputFile("model.other", b"HEAD", 8),), {"a": Slot(0, 4, 4)})
    seal(tmp_path / "model", layout, TENSORS[:1], None)
    report = verify_folder(tmp_path / "model")
    assert (report.tensors, report.unread) == (1, "the manifest does not name the output writer")
    (tmp_path / "model" / "model.other").write_bytes(b"head1234")
    assert "the header differs from the manifest" in differences(tmp_path / "model")[0]


def test_a_writer_that_is_not_installed_leaves_the_bytes_to_compare(tmp_path: Path) -> None:
    layout = Layout((OutputFile("model.other", b"HEAD", 8),), {"a": Slot(0, 4, 4)})
    seal(tmp_path / "model", layout, TENSORS[:1], "other")
    report = verify_folder(tmp_path / "model")
    assert report.unread == (
        "the output writer 'other' is missing: output writer 'other': no installed plugin provides it"
    )
    (tmp_path / "model" / "more.other").touch()
    (tmp_path / "model" / "model.safetensors").touch()
    found = differences(tmp_path / "model")
    assert [one.split(": ")[1] for one in found] == [
        "not in the manifest, and may be loaded instead of the model"
    ] * 2


def test_weights_that_are_not_in_the_manifest_are_an_error(model: Path) -> None:
    (model / "model.safetensors").touch()
    assert "not in the manifest, and may be loaded instead of the model" in differences(model)[0]


def test_a_listed_file_must_be_a_file(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    assert f"{model / 'config.json'}: missing" in differences(model)[0]


def test_twenty_differences_are_told_in_full(tmp_path: Path) -> None:
    tensors = [OutputTensor(f"t{index:02d}", "U8", (1,)) for index in range(25)]
    layout = lay_out(tensors, SafetensorsParams())
    seal(tmp_path / "model", layout, tensors)
    edit(tmp_path / "model" / "model.safetensors", lambda data: data[:-25] + b"?" * 25)
    found = differences(tmp_path / "model")
    assert len(found) == 21
    assert "tensor 't19' is damaged" in found[19]
    assert found[20] == "5 further differences"


def test_a_folder_without_manifest_cannot_be_verified(tmp_path: Path) -> None:
    [error] = differences(tmp_path)
    assert error == (
        f"{tmp_path}: the folder holds no mergecore-manifest.json. "
        "Hint: only folders that mergecore wrote can be verified"
    )


def test_a_folder_that_does_not_exist_is_called_so(tmp_path: Path) -> None:
    [error] = differences(tmp_path / "nosuch")
    assert error == f"{tmp_path / 'nosuch'}: there is no such folder. Hint: check the spelling"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: [], "its format is null, not 'mergecore-manifest/1'"),
        (
            lambda manifest: manifest | {"format": "x/2"},
            "its format is \"x/2\", not 'mergecore-manifest/1'. Hint: use the mergecore version",
        ),
        (lambda manifest: manifest | {"files": 1}, "not a manifest: files: "),
        (
            lambda manifest: manifest | {"files": [{"name": "../x", "size": 1}]},
            "not a manifest: files.0.name: ",
        ),
        (
            lambda manifest: manifest | {"files": []},
            "the manifest has tensors in this file but does not list it",
        ),
    ],
)
def test_a_manifest_that_is_none_is_told(
    change: Callable[[dict[str, object]], object], message: str, model: Path
) -> None:
    path = model / "mergecore-manifest.json"
    edit(path, lambda data: json.dumps(change(json.loads(data))).encode())
    with pytest.raises(MergecoreError) as caught:
        verify_folder(model)
    assert caught.value.code == "E508"
    assert message in str(caught.value)


def test_a_manifest_that_is_no_json_is_told(model: Path) -> None:
    edit(model / "mergecore-manifest.json", lambda data: data[:-3])
    assert "not valid JSON" in differences(model)[0]
