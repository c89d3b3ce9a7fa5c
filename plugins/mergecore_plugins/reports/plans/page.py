"""The page about a plan; read `plan_report`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mergecore.cli import PlanFacts
from mergecore.errors import some
from mergecore.files import parse_json, size_text
from mergecore.types import Checkpoint, DocumentFacts, MovedRows, Plan
from mergecore_plugins.reports.html import Part, bullets, command, data_table, fact_list, page, paragraph
from mergecore_plugins.reports.layers import LayerMap, Spot, layer_maps
from mergecore_plugins.reports.plans.parameters import parameters
from mergecore_plugins.reports.plans.places import Places
from mergecore_plugins.reports.words import counted, joined

FEW = 12
"""Rows of a table that is open from the start, at most."""
RATE = 10**9
"""Bytes a second, for a bound on the time."""


def plan_report(facts: PlanFacts) -> str:
    """One HTML file about a plan, and about those that come before it."""
    plan = facts.plan
    title = f"Plan: {plan.title or _what(plan)}"
    parts = [
        Part("To carry it out", [paragraph("Nothing is written yet. This merges:"), command(facts.command)])
    ]
    if plan.documents:
        parts.append(_documents(plan.documents, facts.there))
    for one in plan.earlier:
        parts += _parts(one.plan, facts.memory[one.name], f"{one.name}: ")
    parts += _parts(plan, facts.memory[""], "")
    return page(title, _summary(plan), parts)


def _what(plan: Plan) -> str:
    methods = [*dict.fromkeys(step.method for step in plan.steps if step.method)]
    made = plan.recipe or joined(methods) or "a copy"
    return f"{made} of {joined(_short(Places(plan).names))}"


def _short(names: Sequence[str]) -> list[str]:
    return [*names] if len(names) < 5 else [*names[:3], f"{len(names) - 3} more"]


def _summary(plan: Plan) -> list[str]:
    places = Places(plan)
    methods = joined(
        [f"{count} {'' if name == 'copied' else 'by '}{name}" for name, count in places.methods.items()]
    )
    warnings = [text for each in (*(one.plan for one in plan.earlier), plan) for text in each.warnings]
    said = f"{counted(len(warnings), 'warning')}, below." if warnings else "There are no warnings."
    return [
        f"{counted(len(plan.outputs), 'tensor')} of {counted(len(plan.models), 'model')}: {methods}. "
        f"The result is {size_text(plan.layout.size)} of {joined([*places.formats]) or 'nothing'} in "
        f"{counted(len(plan.layout.files), 'file')} of weights. {said}"
    ]


def _parts(plan: Plan, memory: tuple[int, int], before: str) -> Iterator[Part]:
    places = Places(plan)
    if plan.warnings:
        yield Part(f"{before}Warnings", [bullets(plan.warnings)])
    yield Part(f"{before}What it takes", [_takes(places, memory)])
    yield Part(f"{before}Models", _models(places))
    yield Part(f"{before}What each model weighs where", parameters(places))
    yield Part(f"{before}Which layer comes from where", _layers(places))
    yield Part(f"{before}Every tensor", _tensors(places))
    yield Part(f"{before}Files", _files(plan))


# ---- parts -------------------------------------------------------------------------------------------------


def _takes(places: Places, memory: tuple[int, int]) -> str:
    plan = places.plan
    workers, peak = memory
    reads, writes = sum(one.bytes_read for one in places.accounts), plan.layout.size
    least = (reads + writes) / RATE
    formats = [f"{name} ({size_text(size)})" for name, size in places.formats.items()]
    return fact_list(
        {
            "reads": f"{size_text(reads)} of weights",
            "writes": f"{size_text(writes)} in {counted(len(plan.layout.files), 'file')}, as {joined(formats)}",
            "memory": f"about {size_text(peak)} at the peak, with {counted(workers, 'worker')}",
            "time": f"{_seconds(least)} at least where {size_text(RATE)} a second are read and written",
            "seed": str(plan.seed),
            "vocabulary": _vocabulary(plan),
            "writer": plan.writer,
            "executor": plan.executor,
            "plugins": ", ".join(f"{name} {version}" for name, version in plan.plugins.items()),
            **{name.replace("_", " "): str(value) for name, value in plan.decided.items()},
        }
    )


def _seconds(number: float) -> str:
    if number < 1:
        return "less than a second"
    return f"{number:.0f} s" if number < 120 else f"{number / 60:.0f} minutes"


def _vocabulary(plan: Plan) -> str:
    names = [name for name in plan.side_files if name.rpartition("/")[2] in _TOKENIZER]
    moved = sum(isinstance(one.tensor.data, MovedRows) for step in plan.steps for one in step.everything)
    size = _size(plan)
    said = [f"{size} tokens"] if size else []
    said += [f"{name} {_whence(plan, plan.side_files[name])}" for name in names]
    said += [f"rows of {counted(moved, 'input')} are moved to it"] if moved else []
    return "; ".join(said) or "no tokenizer"


_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


def _size(plan: Plan) -> str:
    found = plan.side_files.get("config.json")
    if not isinstance(found, bytes):
        return ""
    config = parse_json(found, code="E240", place="config.json")
    sections = [config, config.get("text_config")] if isinstance(config, dict) else []
    sizes = [one.get("vocab_size") for one in sections if isinstance(one, dict)]
    return next((str(one) for one in sizes if one), "")


def _whence(plan: Plan, source: Path | bytes) -> str:
    """Where a side file comes from, in words."""
    if isinstance(source, bytes):
        return f"made for it, {size_text(len(source))}"
    names = Places(plan).names
    owners = [names[i] for i, model in enumerate(plan.models) if source in model.side_files.values()]
    return f"of {owners[0]}" if owners else "of a model"


def _models(places: Places) -> list[str]:
    plan = places.plan
    bases = {step.base.model for step in plan.steps if step.base}
    inputs = {one.model for step in plan.steps for one in step.inputs}
    rows = []
    for i, (model, account) in enumerate(zip(plan.models, places.accounts, strict=True)):
        part = [*(["base"] if i in bases else []), *(["merged"] if i in inputs else [])]
        part += (
            ["gives config and side files"] if i == plan.primary and "config.json" in plan.side_files else []
        )
        counts = [
            str(account.tensors),
            str(account.read),
            str(account.left_out),
            size_text(account.bytes_read),
        ]
        rows.append(
            [model.name, ", ".join(part) or "side files only", _family(plan, i), *counts, _formats(model)]
        )
    heading = ["model", "part", "family", "tensors", "read", "left out", "bytes read", "format"]
    lost = sum(max(0, one.other) for one in places.accounts)
    every = "Every tensor of every model is read, or left out for a reason that is told below."
    return [
        data_table(heading, rows),
        paragraph(every if not lost else f"{counted(lost, 'tensor')} of the models are not accounted for."),
        *(
            paragraph(f"{name}: {model.mapped}.", soft=True)
            for name, model in zip(places.names, plan.models, strict=True)
            if model.mapped
        ),
    ]


def _family(plan: Plan, model: int) -> str:
    if not plan.descriptions:
        return "unknown"
    found = plan.descriptions[model]
    stacks = ", ".join(f"{one.count} layers" for one in found.stacks[:3])
    return ", ".join(filter(None, [found.family or "unknown", stacks]))


def _formats(model: Checkpoint) -> str:
    return "/".join(dict.fromkeys(one.dtype for one in model.tensors.values()))


def _layers(places: Places) -> list[str]:
    """A picture of the layers that are read, where they are not simply the same."""
    found: dict[Spot, set[int]] = {}
    for place, layer in places.layer_sources():
        found.setdefault(place, set()).add(layer)
    if not found:
        return [paragraph("No layers are known: every tensor has its own line below.")]
    models = joined([*dict.fromkeys(one.role for one in found)])
    if all(layers == {place.layer} for place, layers in found.items()) and _complete(found):
        count = len({(one.stack, one.layer) for one in found})
        return [
            paragraph(f"Each of the {count} layers is made of the layers with the same number of {models}.")
        ]
    values = {place: float(min(layers)) for place, layers in found.items()}
    sees = "the number in a cell is the layer of that model from which the layer of the row is made"
    wanted = LayerMap("Layers that are read", values, sees, lambda value: f"{value:.0f}", 0.0)
    return layer_maps([wanted], "`mergecore plan CFG` shows them.")


def _complete(found: Collection[Spot]) -> bool:
    """Whether every model is read in every layer."""
    rows, models = {(one.stack, one.layer) for one in found}, {one.role for one in found}
    return len(found) == len(rows) * len(models)


def _tensors(places: Places) -> list[str]:
    rows = [
        [
            group.pattern,
            str(len(members)),
            " × ".join(map(str, group.shape)) or "a number",
            group.dtype,
            group.how,
            joined([places.names[model] for model in group.sources]),
            size_text(sum(one.nbytes for one in members)),
        ]
        for group, members in places.groups.items()
    ]
    heading = ["tensors of the output", "count", "shape", "format", "how", "of", "bytes"]
    total = sum(len(members) for members in places.groups.values())
    told = f"All {counted(total, 'tensor')} of the output, those that are made alike in one row; * is any number."
    table = data_table(heading, rows, closed=f"{len(rows)} kinds" if len(rows) > 4 * FEW else "")
    return [paragraph(told), table, *_left_out(places)]


def _left_out(places: Places) -> list[str]:
    plan = places.plan
    if not plan.dropped:
        return [paragraph("Nothing is left out.")]
    rows = [
        [places.names[one.model], str(len(one.names)), some(one.names, 3, mark=""), one.reason]
        for one in plan.dropped
    ]
    return [paragraph("Not in the output:"), data_table(["model", "tensors", "names", "why"], rows)]


def _files(plan: Plan) -> list[str]:
    files = [*plan.layout.files]
    weights = [[one.name, size_text(one.size)] for one in files]
    closed = f"{len(files)} files of weights" if len(files) > FEW else ""
    others = [[name, _whence(plan, source)] for name, source in plan.side_files.items()]
    others += [
        [name, f"made for it, {size_text(len(data))}"] for name, data in plan.layout.index_files.items()
    ]
    return [
        data_table(["weights", "size"], weights, closed=closed)
        if files
        else paragraph("No file of weights."),
        data_table(["beside the weights", "from"], others) if others else "",
    ]


def _documents(documents: Sequence[DocumentFacts], there: Collection[str]) -> Part:
    rows = [
        [
            one.name or "the result",
            one.made_by,
            ", ".join(one.reads),
            size_text(one.nbytes),
            _becomes(one, there) if one.name else "written",
            one.why if one.name and one.name not in there else "",
        ]
        for one in documents
    ]
    return Part("Documents", [data_table(["document", "made by", "reads", "size", "how", "why"], rows)])


def _becomes(one: DocumentFacts, there: Collection[str]) -> str:
    return "computed while it is read" if one.fused else "made already" if one.name in there else "written"
