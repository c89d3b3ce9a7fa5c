"""Models with adapters: `BASE+ADAPTER`, opened as one model whose tensors are computed while they are read.

`open_adapted` is the way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from mergecore import hookimpl
from mergecore.errors import Collector, InputError
from mergecore.files import parse_json
from mergecore.models import may_untie
from mergecore.tokenizers import is_tokenizer_file
from mergecore.types import (
    AdapterReference,
    Checkpoint,
    FetchProgress,
    Joined,
    Json,
    ModelReference,
    ModelSource,
    OpenOptions,
    Stored,
    TensorInfo,
)
from mergecore_plugins.lora.changes import Whole
from mergecore_plugins.lora.config import NAME, AdapterConfig, read_config
from mergecore_plugins.lora.data import adapted
from mergecore_plugins.lora.fitting import fit
from mergecore_plugins.lora.lookup import is_head, is_table
from mergecore_plugins.lora.names import parts_of
from mergecore_plugins.lora.wholes import Pieces

Fetch = Callable[[FetchProgress], None]


@hookimpl
def mergecore_model_sources() -> Iterator[ModelSource]:
    yield ModelSource(
        name="adapters",
        accepts=accepts,
        open=open_adapted,
        rank=40,
        summary="a model with an adapter: BASE+ADAPTER",
    )


def accepts(reference: ModelReference, options: OpenOptions) -> bool:
    """Whether the reference names adapters."""
    return bool(reference.adapters)


def open_adapted(reference: ModelReference, options: OpenOptions) -> Checkpoint:
    """The base with its adapters on it, one after the other.

    Raises:
        MergecoreError: E250 for a damaged adapter, E251 for a kind that cannot be merged, E252 for one that does not
            fit its base, and what is wrong with base and adapters as folders.
    """
    problems = Collector()
    opened: list[tuple[AdapterReference, Checkpoint, AdapterConfig]] = []
    for one in reference.adapters:
        with problems.collecting():
            adapter = options.open_model(ModelReference(one.path, one.revision), adapter=True)
            opened.append((one, adapter, config_of(adapter)))
    problems.raise_any()
    config = opened[0][2]
    base = _open_base(reference, config, options)
    made = base
    for one, adapter, its_config in opened:
        made = _applied(made, base, adapter, its_config, one.scale, options)
    named = (
        None if reference.path else replace(reference, path=config.base or "", revision=config.base_revision)
    )
    return replace(made, reference=reference, full_reference=named)


def config_of(adapter: Checkpoint) -> AdapterConfig:
    """What an opened adapter says about itself."""
    place = f"{adapter.name}/{NAME}"
    return read_config(parse_json(adapter.side_files[NAME].read_bytes(), code="E250", place=place), place)


def _open_base(reference: ModelReference, config: AdapterConfig, options: OpenOptions) -> Checkpoint:
    """The base; where only the adapter names it and it is not there, the error says so."""
    try:
        return options.open_model(_base_of(reference, config), weights=options.weights)
    except InputError as error:
        if reference.path or error.code != "E701":
            raise
        adapter = reference.adapters[0]
        what = f"'{adapter}' names '{config.base}' as its base, which is not there: {error.what}"
        hint = f"name the place of the base: 'BASE+{adapter}'"
        raise InputError("E701", what, place=error.place, hint=hint) from None


def _base_of(reference: ModelReference, config: AdapterConfig) -> ModelReference:
    """The base that the reference names, otherwise the one that the adapter names."""
    if reference.path:
        return replace(reference, adapters=())
    if not config.base:
        what = f"'{reference}': the adapter does not name its base"
        raise InputError("E250", what, hint=f"write 'BASE+{reference.adapters[0]}'")
    return ModelReference(config.base, config.base_revision, architecture=reference.architecture)


def _applied(
    made: Checkpoint,
    base: Checkpoint,
    adapter: Checkpoint,
    config: AdapterConfig,
    scale: float,
    options: OpenOptions,
) -> Checkpoint:
    """What is made so far, with one more adapter on it."""
    if not options.weights:
        return _with_files(made, adapter)
    others = _other_base(base, config)
    found = fit(
        parts_of(adapter.tensors.values()),
        config if others else replace(config, base=None),
        made.tensors,
        made.config,
        partial(_pieces, options=options, base=base),
        adapter.name,
    )
    tensors = dict(made.tensors)
    for name, source in found.copies.items():
        if not name.endswith(".bias"):
            tensors[name] = replace(made.tensors[source], name=name)
    for name, whole in found.wholes.items():
        tensors[name] = (
            whole if scale == 1 or name not in tensors else adapted(tensors[name], (Whole(whole),), scale)
        )
    for name, source in found.copies.items():
        if name.endswith(".bias"):  # that of the trained model
            tensors[name] = replace(tensors[source], name=name)
    for name, changes in found.changes.items():
        tensors[name] = adapted(tensors[name], changes, scale)
    untied = any(is_head(name) and name not in made.tensors for name in (*found.copies, *found.wholes))
    changed = replace(
        made,
        tensors=tensors,
        weight_files=(*made.weight_files, *adapter.weight_files),
        config=_config(made.config, tensors, untied=untied),
        fetch=_both(made.fetch, adapter.fetch),
        notes=(
            *made.notes,
            *(f"{adapter.name}: {note}" for note in (*found.notes, *others)),
        ),
        parts=(*made.parts, adapter),
        mapped=_told(made, base, adapter, len(found.changes.keys() | found.wholes.keys())),
    )
    return _with_files(changed, adapter)


def _told(made: Checkpoint, base: Checkpoint, adapter: Checkpoint, count: int) -> str:
    """What the plan says about an adapter."""
    before = f"{made.mapped}; " if made.parts else ""
    tensors = "1 tensor" if count == 1 else f"{count} tensors"
    return f"{before}{tensors} changed by '{adapter.name}' on '{base.name}'"


def _pieces(shapes: Mapping[str, tuple[int, ...]], *, options: OpenOptions, base: Checkpoint) -> Pieces:
    """How tensors of the model lie in the files of the base."""
    tensors = {
        name: TensorInfo(name, Stored(name, "F32", shape, Path(), 0)) for name, shape in shapes.items()
    }
    model = replace(base, tensors=tensors)
    found: dict[str, list[tuple[int, str, int, int]]] = {}
    for name, tensor in (options.map_keys(model, base) or {}).items():
        data = tensor.data
        if isinstance(data, Joined):
            found[name] = [
                (one.at, one.data.reads[0].tensor.name, one.start, one.count) for one in data.segments
            ]
        else:
            found[name] = [(0, data.reads[0].tensor.name, 0, tensor.count)]
    return found


def _config(
    config: Mapping[str, Json], tensors: Mapping[str, TensorInfo], *, untied: bool
) -> Mapping[str, Json]:
    """The config of the base, with what the adapter has changed of it."""
    changed = dict(config)
    inner = changed.get("text_config")
    if isinstance(inner, dict):
        changed["text_config"] = {**inner, **_facts(inner, tensors, untied)}
    return {**changed, **_facts(changed, tensors, untied)}


def _facts(section: Mapping[str, Json], tensors: Mapping[str, TensorInfo], untied: bool) -> dict[str, Json]:
    facts: dict[str, Json] = {}
    tables = {one.shape[0] for name, one in tensors.items() if is_table(name)}
    size = section.get("vocab_size")
    if isinstance(size, int) and len(tables) == 1 and size not in tables:
        facts["vocab_size"] = tables.pop()
    says = section.get("tie_word_embeddings") is not None or "model_type" in section
    if untied and says and may_untie(section):
        facts["tie_word_embeddings"] = False
    return facts


def _both(one: Fetch | None, other: Fetch | None) -> Fetch | None:
    """Brings the files of base and adapter that are not here yet."""
    if one is None or other is None:
        return one or other
    return partial(_fetch, (one, other))


def _fetch(each: tuple[Fetch, ...], tell: FetchProgress) -> None:
    for fetch in each:
        fetch(tell)


def _other_base(base: Checkpoint, config: AdapterConfig) -> list[str]:
    """What to say where the adapter names another base than it is put on."""
    named = config.base
    if not named:
        return []
    last = named.rstrip("/").rpartition("/")[2]
    known = {base.reference.path.rstrip("/").rpartition("/")[2], base.folder.name}
    if (
        last in known
        or _origin(base) in (named, last)
        or f"models--{named.replace('/', '--')}" in str(base.folder)
    ):
        return []
    return [f"it was trained on '{named}', and is put on '{base.name}'"]


def _origin(base: Checkpoint) -> str:
    return str(base.config.get("_name_or_path") or "")


def _with_files(made: Checkpoint, adapter: Checkpoint) -> Checkpoint:
    """What is made so far, with the tokenizer of the adapter where it has one of its own."""
    own = {name: path for name, path in adapter.side_files.items() if is_tokenizer_file(name)}
    if not _holds_vocabulary(own):
        return made
    kept = {name: path for name, path in made.side_files.items() if not is_tokenizer_file(name)}
    small = {name: one for name, one in made.small.items() if name in kept}
    return replace(
        made,
        side_files={**kept, **own},
        small={**small, **{name: adapter.small[name] for name in own}},
    )


def _holds_vocabulary(files: Mapping[str, Path]) -> bool:
    return not _VOCABULARIES.isdisjoint(files)


_VOCABULARIES = frozenset(("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model"))
