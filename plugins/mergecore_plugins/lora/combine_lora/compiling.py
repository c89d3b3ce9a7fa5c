"""Compiles a merge of adapters to a plan, from headers alone; read `plan_combination`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from mergecore import Document, MergecoreError, MergeMethod, OutputWriter
from mergecore.config import HUB
from mergecore.errors import Collector, ConfigError, InputError
from mergecore.tokenizers import is_tokenizer_file
from mergecore.types import Checkpoint, Json, Plan, Planner, PluginChoice, Step
from mergecore_plugins.lora.combine_lora.adapter_config import combined_config
from mergecore_plugins.lora.combine_lora.aligning import Aligned, align
from mergecore_plugins.lora.combine_lora.methods import CombinedParams
from mergecore_plugins.lora.combine_lora.models import Base, as_models
from mergecore_plugins.lora.combine_lora.references import Named, base_of, no_base, of_one_base, read_named
from mergecore_plugins.lora.combine_lora.steps import steps_of
from mergecore_plugins.lora.config import NAME
from mergecore_plugins.lora.making.peft import WRITER, PeftParams
from mergecore_plugins.lora.making.targets import card_of


def plan_combination(document: Document, planner: Planner) -> Plan:
    """The plan of a merge of adapters.

    Raises:
        MergecoreError: what is wrong with the config or the adapters; several as `Problems`.
    """
    planner.read_document(_schema(document))
    _check_keys(document)
    named = read_named(document, planner)
    if not named.adapters:
        planner.compile(_as_merge(document, named, ""))
        raise AssertionError("the grammar of merges tells what is wrong")
    found = align(list(named.adapters.values()))
    method = _method(document, named, planner)
    base = _opened_base(found, named, method, planner)
    merge = planner.compile(
        _as_merge(document, named, base.name if method.base != "unused" else ""), as_models(found, base)
    )
    _check_wholes(merge.steps, found)
    asked = _asked(document, planner)
    steps = steps_of(merge.steps, merge.models, found, method, asked)
    return _plan(document, planner, merge, steps, found, named)


def _schema(document: Document) -> type[BaseModel]:
    """What every document may say; all else is that of a merge, and is looked at there."""
    others: dict[str, Any] = {key: (Any, None) for key in document.data if key not in _COMMON}
    return create_model("AMergeOfAdapters", **others)


_COMMON = ("name", "seed", "output", "executor", "side_files")
_OF_MODELS = ("tokenizer", "tokenizer_source", "chat_template", "slices", "modules", "architecture")
"""Keys of a merge config that mean nothing for adapters."""


def _check_keys(document: Document) -> None:
    """Raise E105 for keys that adapters have no use for."""
    problems = Collector()
    for key in _OF_MODELS:
        if document.data.get(key) is not None:
            what = f"'{key}' means nothing where adapters are merged into an adapter"
            hint = "list the adapters under 'models:'" if key in ("slices", "modules") else "leave it out"
            problems.add(ConfigError("E105", what, place=document.place((key,)), hint=hint))
    problems.raise_any()


def _method(document: Document, named: Named, planner: Planner) -> MergeMethod[Any]:
    try:
        return planner.named(MergeMethod, str(document.data["merge_method"]), ("merge_method",))
    except MergecoreError:
        planner.compile(_as_merge(document, named, ""))  # tells this, and what else is wrong
        raise


def _asked(document: Document, planner: Planner) -> PeftParams:
    """What the config says of the adapter.

    Raises:
        ConfigError: E105 for a writer that has the name of ours and takes something else.
    """
    writer = planner.named(OutputWriter, _writer(document))
    if issubclass(writer.params, PeftParams):
        return writer.params.model_validate(_written(document))
    what = f"adapters cannot be merged for the output writer '{writer.name}', which takes no rank"
    place = document.place(("output", "writer"))
    raise ConfigError("E105", what, place=place, hint=f"write 'writer: {WRITER}@mergecore'")


def _writer(document: Document) -> str:
    output = document.data["output"]
    assert isinstance(output, dict)
    return str(output["writer"])


def _as_merge(document: Document, named: Named, base: str) -> Document:
    """The config of a merge of models of nothing but changes: the same, with their names."""
    data = {key: value for key, value in document.data.items() if key not in _OF_ADAPTERS}
    models = data.get("models")
    if isinstance(models, list):
        data["models"] = [
            {**one, "model": _reference(named.names["models", i, "model"])}
            if isinstance(one, dict) and ("models", i, "model") in named.names
            else one
            for i, one in enumerate(models)
        ]
    differs = named.names.get(("base_model",), base)
    return replace(document, data={**({"base_model": _reference(differs)} if differs else {}), **data})


def _reference(name: str) -> Json:
    """What names a model of exactly that name; text where that can be."""
    return {"path": name} if "+" in name or "@" in name else name


_OF_ADAPTERS = ("output", "side_files", "executor", "name", "base_model")
"""Keys that the merge of changes does not have, or has otherwise."""


def _opened_base(found: Aligned, named: Named, method: MergeMethod[Any], planner: Planner) -> Base:
    """The base; it is opened only where its numbers are needed.

    Raises:
        InputError: E701 where it is needed, and not there.
    """
    reference = base_of(named)
    name = str(reference) if reference else "the base"
    name = f"{name} (base)" if name in named.adapters else name
    needed = list(found.wholes) if method.base_apart else found.partial
    if not needed:
        return Base(name)
    if reference is None:
        raise no_base(needed)
    try:
        return Base(name, planner.open(reference, ("base_model",)))
    except InputError as error:
        raise no_base(needed, error) from error


def _check_wholes(steps: Sequence[Step], found: Aligned) -> None:
    """Raise E105 where tensors that were trained whole would be added up, and not averaged."""
    for step in steps:
        if step.name in found.wholes and step.base is None and step.params is not None:
            params = step.params
            factors = getattr(params, "scale", ())
            scaled = isinstance(factors, tuple) and any(one not in (None, 1) for one in factors)
            if getattr(params, "normalize", True) is False or scaled:
                what = (
                    f"'{step.name}' was trained whole, and {step.method} without normalising would scale it"
                )
                hint = "set 'normalize: true', or use task_arithmetic, which adds up differences to the base"
                raise ConfigError("E105", what, tensor=step.name, hint=hint)


def _plan(
    document: Document, planner: Planner, merge: Plan, steps: Sequence[Step], found: Aligned, named: Named
) -> Plan:
    ranks = {one.params.name: one.params.rank for one in steps if isinstance(one.params, CombinedParams)}
    if not ranks:
        raise ConfigError("E105", "no weight is left to merge", hint="include more, or leave 'exclude' out")
    base = base_of(named)
    tokenizer, notes = _tokenizer(named)
    files = planner.side_files(
        merge.models,
        steps,
        made_by=str(document.data["merge_method"]),
        config=None,
        keep=lambda name: False,
        more={NAME: combined_config(found, ranks, base), **tokenizer},
        card=card_of(
            base.path.removeprefix(HUB) if base and not Path(base.path).exists() else "", _task(found)
        ),
        title="LoRA adapter",
    )
    return planner.plan(
        merge.models,
        steps,
        files,
        unused=dict.fromkeys(range(len(merge.models)), "the merged adapter has nothing of it"),
        warnings=[*of_one_base(named), *found.notes, *notes],
        output=PluginChoice(_writer(document), _written(document)),
        used=[(MergeMethod, str(document.data["merge_method"]))],
        doing=f"merging {len(named.adapters)} adapter{'' if len(named.adapters) == 1 else 's'}",
    )


def _task(found: Aligned) -> str | None:
    return next((str(task) for one in found.adapters if (task := one.config.raw.get("task_type"))), None)


def _written(document: Document) -> dict[str, Json]:
    output = document.data["output"]
    assert isinstance(output, dict)
    return {key: value for key, value in output.items() if key != "writer"}


def _tokenizer(named: Named) -> tuple[dict[str, Path | bytes], list[str]]:
    """The tokenizer that the adapters have with them, and what to say where it is not one."""
    files: list[tuple[Checkpoint, dict[str, Path | bytes]]] = []
    for one in named.adapters.values():
        own = {name: path for name, path in one.opened.side_files.items() if is_tokenizer_file(name)}
        if own:
            files.append((one.opened, dict(own)))
    if not files:
        return {}, []
    first, taken = files[0]
    others = [
        opened.name
        for opened, own in files[1:]
        if own.keys() != taken.keys()
        or any(opened.small[name].sha256 != first.small[name].sha256 for name in own)
    ]
    told = [f"the tokenizer is that of {first.name}; {', '.join(others)} has another"] if others else []
    return taken, told
