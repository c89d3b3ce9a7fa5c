"""Opening a model: what its folder holds, checked as far as headers and small files allow.

Read `open_folder` first; sources of models (local folders, a hub) bring the folder and end in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mergecore.errors import Collector, InputError, MergecoreError, PolicyError
from mergecore.files.safe_open import open_regular, sha256_of, stamp_of
from mergecore.files.strict_json import MAX_BYTES, parse_json
from mergecore.models.card_data import read_card
from mergecore.models.config_json import MAX_CONFIG, disagreements, quantisation, read_config
from mergecore.models.config_json import NAME as CONFIG
from mergecore.models.input_folder import InputFolder, RemoteFile, list_folder
from mergecore.models.module_folders import FOLDER, MODULES, module_folder
from mergecore.models.safetensors import parse_header
from mergecore.models.shards import Weights, is_pickle, read_headers, read_weights
from mergecore.models.torch_files.archive import parse_torch
from mergecore.models.torch_files.plain import read_plain_file, read_plain_folder
from mergecore.tokenizers.files import is_tokenizer_file
from mergecore.types import Checkpoint, Json, ModelReference, SmallFile, TensorInfo, WeightFile


def open_folder(
    folder: Path,
    reference: ModelReference,
    revision: str | None = None,
    allowed_root: Path | None = None,
    remote: Mapping[str, RemoteFile] | None = None,
    weights: bool = True,
    read: Callable[[InputFolder], Weights] | None = None,
) -> Checkpoint:
    """The model in `folder`; no weight is read, and without `weights` only small files are looked at.

    Symbolic links may lead to other files of the folder, into `allowed_root`, and, in the cache of a hub, to
    its blobs.  `remote` holds files that are in the folder only later; the caller adds `fetch`.  `read` finds the
    weights where they are in no files that are known here.

    Raises:
        MergecoreError: everything that is wrong with the model, as `Problems` when there are several.
    """
    files = list_folder(folder, reference.path.rstrip("/") or reference.path, allowed_root, remote)
    if not weights:
        return _without_weights(files, reference, revision)
    if ADAPTER in files.names and CONFIG not in files.names:
        raise _is_adapter(files)
    problems = Collector()
    home = _home(files, problems)
    config: dict[str, Json] | None = None
    found = Weights({}, ())
    with problems.collecting():
        config = read_config(home) if _is_configured(home) else {}
    with problems.collecting():
        found = read(home) if read else _weights_in(home)
    _check_together(config, found, home, problems)
    sides, small = _all_side_files(files, home, problems)
    inner = _modules(files, home, problems)
    problems.raise_any()
    for name in [name for name in sides if module_folder(name) and name.endswith(".safetensors")]:
        del sides[name], small[name]
    return Checkpoint(
        reference=reference,
        folder=files.path,
        tensors={**found.tensors, **inner.tensors},
        weight_files=(*found.files, *inner.files),
        config=config or {},
        side_files=sides,
        revision=revision,
        small=small,
        notes=found.notes,
        about=read_card(files),
    )


def _weights_in(home: InputFolder) -> Weights:
    return read_weights(home) if _is_configured(home) else read_plain_folder(home)


def _home(files: InputFolder, problems: Collector) -> InputFolder:
    """The folder that holds the transformer: that of the first module where it has one of its own."""
    if CONFIG in files.names:
        return files
    first: Sequence[str] = ()
    with problems.collecting():
        first = _named_folders(files)[:1]
    for name in first:
        if FOLDER.fullmatch(name) and (files.path / name / CONFIG).is_file():
            return _inside(files, name)
    return files


def _inside(files: InputFolder, name: str) -> InputFolder:
    names = frozenset(one.name for one in (files.path / name).iterdir())
    return replace(files, path=files.path / name, shown=files.place(name), names=names, remote={})


def _modules(files: InputFolder, home: InputFolder, problems: Collector) -> Weights:
    """The weights of further modules in their folders; pickles only where modules.json says that they are needed."""
    tensors: dict[str, TensorInfo] = {}
    found: list[WeightFile] = []
    named: Sequence[str] = ()
    with problems.collecting():
        named = _named_folders(files)
    for name in sorted(one for one in files.names if FOLDER.fullmatch(one) and (files.path / one).is_dir()):
        inside = _inside(files, name)
        needed = any(
            one.endswith(".safetensors") or (name in named and is_pickle(one)) for one in inside.names
        )
        if needed and inside.path != home.path:
            with problems.collecting():
                weights = read_weights(inside)
                for key, one in weights.tensors.items():
                    tensors[f"{name}/{key}"] = replace(one, name=f"{name}/{key}")
                found += weights.files
    return Weights(tensors, tuple(found))


def _named_folders(files: InputFolder) -> list[str]:
    """The folders of the modules in their order, as modules.json has them."""
    if MODULES not in files.names:
        return []
    text = files.read(MODULES, code="E250", max_bytes=1_000_000)
    listed = parse_json(text, code="E250", place=files.place(MODULES))
    paths = [one.get("path") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [path for path in paths if isinstance(path, str)]


def open_adapter(
    folder: Path,
    reference: ModelReference,
    revision: str | None = None,
    remote: Mapping[str, RemoteFile] | None = None,
    weights: bool = True,
) -> Checkpoint:
    """The adapter in `folder`: the tensors of its own file, no config, and its config among the side files.

    Without `weights`, only small files are looked at.

    Raises:
        MergecoreError: E250 when it is none, and everything that is wrong with its files.
    """
    files = list_folder(folder, reference.path.rstrip("/") or reference.path, None, remote)
    if ADAPTER not in files.names:
        raise _not_an_adapter(files)
    problems = Collector()
    found = Weights({}, ())
    with problems.collecting():
        found = _adapter_weights(files) if weights else found
    sides, small = _side_files(files, problems, ADAPTER)
    problems.raise_any()
    return Checkpoint(
        reference,
        files.path,
        found.tensors,
        found.files,
        {},
        sides,
        revision,
        small=small,
        about=read_card(files),
    )


def open_file(file: Path, reference: ModelReference) -> Checkpoint:
    """The tensors of one file of safetensors or of `torch.save`, without config and side files.

    Raises:
        MergecoreError: what a header or a pickle may raise, and E233 when the tensors are quantised.
    """
    path = file.absolute()
    found = read_plain_file(path, reference.path)
    if packed := quantisation({}, found.tensors.values(), reference.path):
        raise packed
    return Checkpoint(reference, path.parent, found.tensors, found.files, notes=found.notes)


def is_side_file(name: str) -> bool:
    """Whether a file of that name, relative to the folder of a model, is carried into a merged model."""
    return bool(_SIDE_FILE.fullmatch(name)) or is_tokenizer_file(name) or is_terms(name)


def is_terms(name: str) -> bool:
    """Whether a file says what may be done with a model, as its licence does; loaders need none of them."""
    return bool(_TERMS.fullmatch(name)) and not name.endswith(_WEIGHTS)


def _without_weights(files: InputFolder, reference: ModelReference, revision: str | None) -> Checkpoint:
    problems = Collector()
    config: dict[str, Json] = {}
    home = files
    with problems.collecting():
        home = _home(files, problems)
        config = read_config(home) if CONFIG in home.names else {}
    sides, small = _all_side_files(files, home, problems)
    problems.raise_any()
    return Checkpoint(reference, files.path, {}, (), config, sides, revision, small=small)


# ---- what belongs together ---------------------------------------------------------------------------------


def _is_configured(files: InputFolder) -> bool:
    """Whether a folder must have a config: there is one, or other files that only go with one."""
    return any(is_side_file(name) and not is_terms(name) for name in files.names)


# ---- adapters ---------------------------------------------------------------------------------------------

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"


def _adapter_weights(files: InputFolder) -> Weights:
    """The tensors of an adapter, from the header of its file.

    Raises:
        MergecoreError: E250 when there is none, and those of headers and of `parse_torch`.
    """
    name = next((one for one in (ADAPTER_WEIGHTS, _PICKLED) if one in files.names), None)
    if name:
        headers = read_headers(files, [name], parse_torch if name == _PICKLED else parse_header)
        tensors = {one.name: TensorInfo(one.name, one) for found, _ in headers.values() for one in found}
        return Weights(tensors, tuple(file for _, file in headers.values()))
    raise InputError(
        "E250", f"the adapter has no {ADAPTER_WEIGHTS}", place=files.shown, hint="copy the adapter again"
    )


def _is_adapter(files: InputFolder) -> MergecoreError:
    """The error for an adapter where a model is wanted."""
    base = _base_of(files)
    what = f"a PEFT adapter of '{base}', not a model" if base else "a PEFT adapter, not a model"
    hint = f"write '{base or 'BASE'}+{files.shown}', or {{adapter: {files.shown}}} for the base that it names"
    return InputError("E201", what, place=files.shown, hint=hint)


def _not_an_adapter(files: InputFolder) -> MergecoreError:
    """The error for a folder without an adapter where one is wanted."""
    what = f"not an adapter: there is no {ADAPTER}"
    return InputError(
        "E250",
        what,
        place=files.shown,
        hint="an adapter belongs here: after '+', or after the BASE of a command",
    )


def _base_of(files: InputFolder) -> str | None:
    text = files.read(ADAPTER, code="E250", max_bytes=1_000_000)
    value = parse_json(text, code="E250", place=files.place(ADAPTER))
    base = value.get("base_model_name_or_path") if isinstance(value, dict) else None
    return base if isinstance(base, str) else None


# ---- config and weights -----------------------------------------------------------------------------------


def _check_together(
    config: Mapping[str, Json] | None, weights: Weights, files: InputFolder, problems: Collector
) -> None:
    packed = quantisation(config or {}, weights.tensors.values(), files.shown)
    if packed:
        problems.add(packed)
    elif config:
        for error in disagreements(config, weights.tensors, files.place(CONFIG)):
            problems.add(error)


# ---- side files --------------------------------------------------------------------------------------------

_SIDE_FILE = re.compile(
    r"config\.json|generation_config\.json"
    r"|[\w.-]+\.py"
    # processors of images, audio and video
    r"|((video_|image_)?(pre)?processor|feature_extractor|audio_tokenizer)_config\.json"
    # generation code, and the modules of sentence-transformers
    r"|custom_generate/[\w./-]+|modules\.json|config_sentence_transformers\.json|sentence_\w+_config\.json"
    r"|[0-9]+_\w+/[\w.-]+\.(json|txt|model|safetensors)",
    re.ASCII,
)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".json", ".py", ".msgpack", ".h5")
_TERMS = re.compile(
    r"[\w .-]*(licen[sc]e|notice|copying|copyright|use[_ -]?policy)[\w .-]*?(\.(md|txt|rst|pdf|html?))?",
    re.ASCII | re.IGNORECASE,
)
"""What the authors of a model say about what may be done with it."""
_FOLDERS = re.compile(r"additional_chat_templates|custom_generate|[0-9]+_\w+", re.ASCII)


def _all_side_files(
    files: InputFolder, home: InputFolder, problems: Collector
) -> tuple[dict[str, Path], dict[str, SmallFile]]:
    """Those of the whole, and those of the transformer as if it lay beside modules.json."""
    sides, small = _side_files(files, problems)
    if home is files:
        return sides, small
    folder = home.path.name
    inner, inner_small = _side_files(home, problems)
    sides = {name: path for name, path in sides.items() if module_folder(name) != folder}
    small = {name: one for name, one in small.items() if name in sides}
    return {**inner, **sides}, {**inner_small, **small}


def _side_files(
    files: InputFolder, problems: Collector, further: str = ""
) -> tuple[dict[str, Path], dict[str, SmallFile]]:
    """The side files and the `further` one by name, and what identifies them: regular files inside the folder."""
    found: dict[str, Path] = {}
    small: dict[str, SmallFile] = {}
    for name in sorted(_names(files)):
        if is_side_file(name) or name == further:
            with problems.collecting():
                path = files.locate(name)
                with open_regular(path, files.place(name)) as (read, status):
                    _check_size(name, status.st_size, files.place(name))
                    digest = sha256_of(read, status.st_size)
                    small[name] = SmallFile(status.st_size, digest, stamp_of(status))
                found[name] = path
    return found, small


def _check_size(name: str, size: int, place: str) -> None:
    """Raise E308 for what is not a side file by its size; reading all of it would take minutes."""
    limit = MAX_CONFIG if name == CONFIG else MAX_BYTES
    if size > limit and not name.endswith(".safetensors"):
        raise PolicyError("E308", f"the file has {size} bytes, limit {limit}", place=place)


def _names(files: InputFolder) -> Iterator[str]:
    for name in files.names:
        if _FOLDERS.fullmatch(name) and (files.path / name).is_dir():
            for place, _, inside in os.walk(files.path / name):
                yield from ((Path(place) / file).relative_to(files.path).as_posix() for file in inside)
        elif not (is_terms(name) and (files.path / name).is_dir()):
            yield name
