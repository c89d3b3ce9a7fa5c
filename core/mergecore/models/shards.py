"""The weights of a model folder: which files hold them, and whether they agree with their index.

Read `read_weights` first: it finds the one set of weights, reads its headers, compares them with the index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

from mergecore.errors import Collector, InputError, MergecoreError, PolicyError, some
from mergecore.files.dtypes import nbytes
from mergecore.files.safe_open import open_regular, stamp_of
from mergecore.files.strict_json import parse_mapping
from mergecore.models.input_folder import InputFolder
from mergecore.models.safetensors import Tensors, parse_header
from mergecore.types import Json, TensorInfo, WeightFile

Parse = Callable[..., tuple[Tensors, WeightFile]]
"""Finds tensors as `parse_header` does, with the same arguments."""
SINGLE = "model.safetensors"
MAX_INDEX = 100_000_000


@dataclass(frozen=True)
class Weights:
    """All tensors of a model, in the order of the files and of the bytes in them."""

    tensors: Mapping[str, TensorInfo]
    files: tuple[WeightFile, ...]
    notes: tuple[str, ...] = ()
    """What is wrong and harms nothing."""


def read_weights(folder: InputFolder) -> Weights:
    """The weights in `folder`, from headers alone.

    Raises:
        MergecoreError: E201, E210, E212, E213, E301 … E303, those of headers; several as `Problems`.
    """
    index_name, files = _weight_set(folder)
    return weights_of(folder, files, index_name)


def weights_of(
    folder: InputFolder, files: Sequence[str], index_name: str | None = None, parse: Parse = parse_header
) -> Weights:
    """The weights in `files`, or in those of an index.

    Raises:
        MergecoreError: E212 when a file is missing, E213 when they disagree with the index or hold a tensor twice.
    """
    index = _read_index(folder, index_name) if index_name else None
    if index:
        files = sorted(set(index.files.values()))
    _check_present(folder, files, index_name)
    headers = read_headers(folder, files, parse)
    if index:
        _check_index(index, headers, folder.place(index.name))
    tensors = {
        tensor.name: TensorInfo(tensor.name, tensor) for found, _ in headers.values() for tensor in found
    }
    _check_once(headers, len(tensors), folder)
    files_read = tuple(file for _, file in headers.values())
    wrong = _wrong_total(index.total_size, tensors.values()) if index else None
    return Weights(tensors, files_read, (f"{folder.place(index.name)}: {wrong}",) if index and wrong else ())


# ---- which files -------------------------------------------------------------------------------------------


def _weight_set(folder: InputFolder) -> tuple[str | None, Sequence[str]]:
    """The name of the index and no files, or no index and the names of all files."""
    names = sorted(folder.names)
    indices = [name for name in names if name.endswith(f"{_SUFFIX}.index.json")]
    index = f"{SINGLE}.index.json" if f"{SINGLE}.index.json" in indices else next(iter(indices), None)
    sets = file_sets(names)
    if SINGLE in sets:
        rival = index or next((files[0] for stem, files in sets.items() if stem.startswith("model ")), None)
        if rival:
            raise _ambiguous([SINGLE, rival], folder)
        return None, [SINGLE]
    if index:
        rivals = [name for name in indices if not index.startswith("model.") and name != index]
        single = index.removesuffix(".index.json")
        if rivals or single in sets:
            raise _ambiguous([single if single in sets else rivals[0], index], folder)
        return index, []
    if len(sets) > 1:
        raise _ambiguous([files[0] for files in sets.values()], folder)
    if not sets:
        raise no_weights(folder)
    return None, complete(next(iter(sets.values())), folder)


_SUFFIX = ".safetensors"
_NUMBERED = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")


def _is_safetensors(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith((".", "adapter_"))


def file_sets(names: Sequence[str], wanted: Callable[[str], bool] = _is_safetensors) -> dict[str, list[str]]:
    """Files that belong together: numbered ones of one name and total, or one alone."""
    sets: dict[str, list[str]] = {}
    for name in names:
        if wanted(name):
            numbered = _NUMBERED.fullmatch(name)
            sets.setdefault(f"{numbered[1]} of {numbered[3]}" if numbered else name, []).append(name)
    return sets


def complete(files: list[str], folder: InputFolder) -> list[str]:
    """`files` when none of the numbers they count up to is missing.

    Raises:
        InputError: E212 when one is.
    """
    numbered = _NUMBERED.fullmatch(files[0])
    if numbered is None:
        return files
    total = int(numbered[3])
    if len(files) < total:
        number = next(i for i, name in enumerate([*files, ""], 1) if _number(name) != i)
        name = f"{numbered[1]}-{number:0{len(numbered[2])}}-of-{numbered[3]}{numbered[4]}"
        what = f"missing; {total - len(files)} of {total} files of this name are not there"
        raise InputError("E212", what, place=folder.place(name), hint="download or copy the model again")
    return files


def _number(name: str) -> int:
    numbered = _NUMBERED.fullmatch(name)
    return int(numbered[2]) if numbered else 0


def _ambiguous(names: Sequence[str], folder: InputFolder) -> MergecoreError:
    both = "both" if len(names) == 2 else "all of"
    what = f"ambiguous weights: {both} {_listed(names, ' and ')} are there"
    hint = "remove or rename what does not belong to the model"
    return InputError("E214", what, place=folder.shown, hint=hint)


def no_weights(folder: InputFolder) -> MergecoreError:
    """The error for a folder without safetensors: it says what is there instead."""
    pickles = sorted(name for name in folder.names if is_pickle(name))
    if pickles:
        shards = all(re.fullmatch(r"pytorch_model-\d+-of-\d+\.bin", name) for name in pickles)
        source = pickles[0] if len(pickles) == 1 else "pytorch_model-*.bin" if shards else ""
        command = _command(folder.place(source), folder.place(SINGLE)) if source else ""
        why = "a model with a config is read from safetensors only"
        return _pickled(f"the weights are pickles ({_listed(pickles)})", folder.shown, command, why)
    others = sorted(name for name in folder.names if name.endswith(_FOREIGN))
    instead = f"; {_listed(others)} cannot be used" if others else ""
    what = f"no weights found, expected {SINGLE} or {SINGLE}.index.json{instead}"
    inside = [name for name in sorted(folder.names) if any((folder.path / name).glob(f"*{_SUFFIX}"))]
    if not inside:
        return InputError("E201", what, place=folder.shown)
    hint = f"merge each by itself, such as {folder.place(inside[0])}"
    return InputError("E201", f"{what}; there are some in {_listed(inside)}", place=folder.shown, hint=hint)


def _pickled(what: str, place: str, command: str, why: str) -> MergecoreError:
    """The error for weights that are pickles; `command` converts them, and `why` says what could be read."""
    hint = f"convert them to safetensors{command}; {why}"
    return PolicyError("E303", f"{what}, which can run code when they are read", place=place, hint=hint)


def pickled_file(path: str) -> MergecoreError:
    """The error for a file that is a pickle and no archive of `torch.save`, which could be read without running it."""
    command = _command(path, re.sub(r"\.\w+$", _SUFFIX, path))
    why = "what torch.save writes today is read without running anything, older files are not"
    return _pickled("the weights are a pickle", path, command, why)


_FOREIGN = (".gguf", ".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".npz", ".safetensors")
_TRAINING = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "random_states")


def is_pickle(name: str) -> bool:
    """Whether a file of that name holds weights as a pickle."""
    return name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")) and not name.startswith((".", *_TRAINING))


def _command(source: str, target: str) -> str:
    """A command that converts a pickle, in brackets; nothing where names would have to be quoted."""
    if not re.fullmatch(r"[\w./*-]+", source):
        return ""
    files = f"sorted(glob.glob('{source}'))"
    load = "torch.load(f, map_location='cpu', weights_only=True)"
    # tied tensors share memory, which safetensors refuses: each gets its own
    tensors = f"{{k: v.clone().contiguous() for f in {files} for k, v in {load}.items()}}"
    save = f"safetensors.torch.save_file({tensors}, '{target}', {{'format': 'pt'}})"
    return f' (python -c "import glob, torch, safetensors.torch; {save}")'


# ---- the index ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Index:
    name: str
    files: Mapping[str, str]
    total_size: Json


def _read_index(folder: InputFolder, name: str) -> _Index:
    place = folder.place(name)
    value = parse_mapping(folder.read(name, code="E210", max_bytes=MAX_INDEX), code="E210", place=place)
    if "weight_map" not in value:
        raise InputError("E210", "no 'weight_map'", place=place)
    return _Index(name, _weight_map(value["weight_map"], place), _total_size(value.get("metadata"), place))


def _weight_map(value: Json, place: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InputError("E210", "'weight_map' must be an object", place=place)
    if not value:
        raise InputError("E210", "'weight_map' is empty", place=place)
    files = {}
    for tensor, file in value.items():
        if not isinstance(file, str):
            raise InputError("E210", f"'weight_map': the file of '{tensor}' must be a string", place=place)
        files[tensor] = file
    problems = Collector()
    for file in list(dict.fromkeys(file for file in files.values() if _fault(file)))[:_NAMED]:
        fault = f"{_fault(file)}; expected a file in the model directory"
        problems.add(PolicyError("E301", fault, place=place, hint="no flag allows this; correct the index"))
    problems.raise_any()
    return files


_NAMED = 3
"""Names that one message lists; of a damaged index there are thousands."""


def _fault(file: str) -> str | None:
    """What makes `file` no plain name of a file in the folder."""
    if not file.isprintable():
        return f"file name '{file}' holds a control character"
    if "\\" in file:
        return f"file name '{file}' holds '\\\\'"
    if file.startswith("/") or ".." in file.split("/"):
        return f"'{file}' is outside the model directory"
    if "/" in file:
        return f"'{file}' is in a sub-directory"
    if not re.fullmatch(r"(?!\.)[\w.-]{1,255}", file):
        return f"'{file}' is not a plain file name"
    return None


def _total_size(metadata: Json, place: str) -> Json:
    if metadata is not None and not isinstance(metadata, dict):
        raise InputError("E210", "'metadata' must be an object", place=place)
    return metadata.get("total_size") if metadata else None


# ---- the headers -------------------------------------------------------------------------------------------


def _check_present(folder: InputFolder, files: Sequence[str], index: str | None) -> None:
    missing = [file for file in files if file not in folder.names]
    if missing:
        what = f"{_listed(missing)} missing: {len(missing)} of {len(files)} files in {index} are not there"
        raise InputError("E212", what, place=folder.shown, hint="download or copy the model again")


def read_headers(
    folder: InputFolder, files: Sequence[str], parse: Parse = parse_header
) -> dict[str, tuple[Tensors, WeightFile]]:
    """The headers by file name, as `parse` finds them; files on other machines are asked at the same time."""
    headers: dict[str, tuple[Tensors, WeightFile]] = {}
    problems = Collector()
    workers = 8 if folder.remote else 1
    with ThreadPoolExecutor(workers) as pool:
        for file, future in [(file, pool.submit(_read_header, folder, file, parse)) for file in files]:
            with problems.collecting():
                headers[file] = future.result()
    problems.raise_any()
    return headers


def _read_header(folder: InputFolder, file: str, parse: Parse) -> tuple[Tensors, WeightFile]:
    path, place = folder.path / file, folder.place(file)
    if remote := folder.remote.get(file):
        return parse(remote.read, remote.size, path, place)
    with open_regular(folder.locate(file), place) as (read, status):
        return parse(read, status.st_size, path, place, stamp_of(status))


def _check_index(index: _Index, headers: Mapping[str, tuple[Tensors, WeightFile]], place: str) -> None:
    """The index names every tensor, in the file that holds it, and nothing else."""
    problems = Collector()
    unlisted, elsewhere, held = [], [], set()
    for file, (tensors, _) in headers.items():
        for tensor in tensors:
            stated = index.files.get(tensor.name)
            if stated is None:
                unlisted.append(f"tensor '{tensor.name}' in {file}")
            elif stated == file:
                held.add(tensor.name)
            else:
                elsewhere.append(f"tensor '{tensor.name}' is in {file}, not in {stated} as the index says")
    ghosts = [f"tensor '{name}'" for name in index.files if name not in held] if not elsewhere else []
    if unlisted:
        problems.add(_disagreement(f"{_listed(unlisted)} not in the index", place))
    if elsewhere:
        problems.add(_disagreement(_listed(elsewhere), place))
    if ghosts:
        problems.add(_disagreement(f"{_listed(ghosts)} in the index but in none of its files", place))
    problems.raise_any()


def _disagreement(what: str, place: str) -> MergecoreError:
    hint = "the index belongs to other files; download the model again, or save the index again"
    return InputError("E213", what, place=place, hint=hint)


def _wrong_total(stated: Json, tensors: Iterable[TensorInfo]) -> str | None:
    """What to say about a stated size that is wrong; those with bools as bits are right too."""
    actual, packed = 0, Fraction(0)
    for tensor in tensors:
        size = nbytes(tensor.dtype, tensor.shape)
        actual += size
        packed += Fraction(size, 8) if tensor.dtype == "BOOL" else size
    if stated is None or stated in (actual, float(packed), int(packed)):
        return None
    return (
        f"total_size {stated} in the index, actual {actual} bytes; loaders ignore it, and so does the merge"
    )


def _check_once(headers: Mapping[str, tuple[Tensors, WeightFile]], count: int, folder: InputFolder) -> None:
    if sum(len(tensors) for tensors, _ in headers.values()) == count:
        return
    homes: dict[str, str] = {}
    for file, (tensors, _) in headers.items():
        for tensor in tensors:
            other = homes.setdefault(tensor.name, file)
            if other != file:
                what = f"tensor '{tensor.name}' is in both {other} and {file}"
                raise InputError("E213", what, place=folder.shown, tensor=tensor.name)


def _listed(names: Sequence[str], joint: str = ", ") -> str:
    return some(names, _NAMED, mark="", joint=joint)
