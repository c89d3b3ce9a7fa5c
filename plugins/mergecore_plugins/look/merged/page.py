"""The page about a merge: the run, the result beside its parents, by layer and role; read `merge_report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from mergecore import Manifest, Registry, planner, read_manifest
from mergecore.cli import MergeFacts
from mergecore.errors import MergecoreError, some
from mergecore.files import size_text
from mergecore.types import Checkpoint, ModelReference
from mergecore_plugins.look.merged.tracing import Trace, Traced, Votes, traced
from mergecore_plugins.look.pairs import Pair
from mergecore_plugins.look.tables import cosine_text, number_text, percent_text
from mergecore_plugins.reports import (
    LayerMap,
    Part,
    Spot,
    bullets,
    command,
    counted,
    data_table,
    fact_list,
    joined,
    layer_maps,
    page,
    paragraph,
    spot,
)
from mergecore_plugins.reports.plans.places import Places

T = TypeVar("T", Pair, Votes)


def merge_report(facts: MergeFacts, registry: Registry) -> str:
    """One HTML file about a merge whose result is there.

    Raises:
        MergecoreError: when a model has changed since, or the folder is not what its manifest says.
    """
    manifest = read_manifest(facts.folder)
    result, why = _opened(facts, registry)
    found = (
        traced(facts.plan, result, facts.workers)
        if result
        else Trace(tuple(Places(facts.plan).names), (), {})
    )
    title = f"Merge: {facts.plan.title or facts.folder.name}"
    parts = [Part("The run", _run(facts, manifest))]
    warnings = _extra(manifest, "warnings")
    if isinstance(warnings, list) and warnings:
        parts.append(Part("Warnings", [bullets(map(str, warnings))]))
    if found.tensors:
        parts += [Part("Beside its parents", [_beside(found)]), Part("By layer and role", _pictures(found))]
        parts.append(Part("Every tensor", [_every(found)]))
    parts.append(Part("Not compared", _skipped(found, why)))
    parts.append(Part("Digests", _digests(manifest)))
    return page(title, _summary(facts, found), parts)


def _opened(facts: MergeFacts, registry: Registry) -> tuple[Checkpoint | None, str]:
    """The result as a model, or why it cannot be read as one."""
    try:
        return planner(registry=registry).open(ModelReference(str(facts.folder))), ""
    except MergecoreError as error:
        return None, f"The result cannot be read as a model, so it is not compared: {error.what}."


# ---- the run -----------------------------------------------------------------------------------------------


def _run(facts: MergeFacts, manifest: Manifest) -> list[str]:
    reads = sum(one.bytes_read for one in Places(facts.plan).accounts)
    writes = facts.plan.layout.size
    time = "not known: the folder was there before"
    if facts.seconds is not None:
        speed = (
            ""
            if facts.resumed
            else f", {size_text(round((reads + writes) / max(facts.seconds, 1e-3)))} a second"
        )
        part = "of this part of a run that was resumed" if facts.resumed else f"read and written{speed}"
        time = f"{facts.seconds:.3g} s, {part}"
    memory = f"{size_text(facts.peak_memory)} at the peak of the process" if facts.peak_memory else ""
    versions = {"mergecore": _extra(manifest, "mergecore"), **_mapping(_extra(manifest, "libraries"))}
    return [
        fact_list(
            {
                "folder": facts.folder.name,
                "reads": size_text(reads),
                "writes": f"{size_text(writes)} in {counted(len(facts.plan.layout.files), 'file')}",
                "time": time,
                "memory": memory,
                "workers": str(facts.workers),
                "seed": str(facts.plan.seed),
                "made with": ", ".join(f"{name} {version}" for name, version in versions.items()),
                "fingerprint": manifest.fingerprint,
            }
        ),
        paragraph("This makes it again:"),
        command(facts.command),
    ]


def _extra(manifest: Manifest, name: str) -> object:
    """A fact of a manifest that not all have."""
    return (manifest.model_extra or {}).get(name)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _digests(manifest: Manifest) -> list[str]:
    files = [[one.name, size_text(one.size), one.sha256 or one.header_sha256 or ""] for one in manifest.files]
    tensors = [[name, one.digest] for name, one in manifest.tensors.items()]
    heading = ["file", "size", "SHA-256, of weights that of the header"]
    return [
        paragraph("`mergecore verify` compares every byte with these."),
        data_table(heading, files, closed=counted(len(files), "file")),
        data_table(["tensor", "digest"], tensors, closed=counted(len(tensors), "tensor"))
        if len(tensors) <= _MOST_DIGESTS
        else paragraph(f"The digests of {counted(len(tensors), 'tensor')} are in the manifest."),
    ]


_MOST_DIGESTS = 1_500


# ---- beside its parents ------------------------------------------------------------------------------------


def _summary(facts: MergeFacts, found: Trace) -> list[str]:
    made = counted(len(facts.plan.outputs), "tensor")
    first = f"{made} of {joined(found.models)}, {size_text(facts.plan.layout.size)}."
    if not found.tensors:
        return [first]
    apart = _by_parent(found, lambda one: one.apart)
    if all(len({*one.parents}) == 1 for one in found.tensors):
        return [first, f"Each tensor is made of one model: {_counts(found)}."]
    near = min(apart, key=lambda model: apart[model].relative or 0.0)
    told = f"The result is nearest to {found.models[near]}: {number_text(apart[near].relative)} of its norm away."
    moved, votes = _sum(one.moved for one in found.tensors), _votes(found.tensors)
    if moved.count:
        told += f" It moved {number_text(moved.relative)} from the base"
        told += f", in {percent_text(moved.share_changed)} of its entries."
    if votes.conflict is not None:
        told += f" Where several parents changed an entry, they disagree on its sign in {percent_text(votes.conflict)}."
    return [first, told]


def _counts(found: Trace) -> str:
    """How many tensors are made of each model."""
    counts = Counter(found.models[one.parents[0]] for one in found.tensors)
    return joined([f"{count} of {name}" for name, count in counts.items()])


def _beside(found: Trace) -> str:
    """A row for each parent."""
    apart = _by_parent(found, lambda one: one.apart)
    against = _by_parent(found, lambda one: one.parents_moved)
    changes = _by_parent(found, lambda one: one.changes)
    heading = ["parent", "result is away by", "cosine of weights"]
    heading += (
        ["it moved from the base by", "in entries", "cosine of changes", "same sign"] if changes else []
    )
    rows = []
    for model, one in apart.items():
        row = [found.models[model], number_text(one.relative), cosine_text(one.cosine)]
        if model in changes:
            row += [number_text(against[model].relative), percent_text(against[model].share_changed)]
            row += [cosine_text(changes[model].cosine), percent_text(changes[model].same_sign)]
        rows.append(row + [""] * (len(heading) - len(row)))
    moved = _sum(one.moved for one in found.tensors)
    legend = "Away by: |result - parent| / |parent|; moved by: |parent - base| / |base|; Frobenius norms of all tensors"
    if changes:
        legend += f" that were compared. The result moved by {number_text(moved.relative)}"
        legend += f", in {percent_text(moved.share_changed)} of its entries"
    return data_table(heading, rows) + paragraph(f"{legend}.", soft=True)


def _pictures(found: Trace) -> list[str]:
    return layer_maps([*_maps(found)], "The table of tensors has the numbers.")


def _maps(found: Trace) -> Iterator[LayerMap]:
    number, share = partial(_drawn, found), percent_text
    if any(one.moved for one in found.tensors):
        sees = "the stronger a cell, the farther the merge moved it"
        yield number("How far the result moved from the base", _moved, _relative, number_text, sees)
        sees = "where it is strong the parents pull apart, and a method that resolves signs has work to do"
        values = {key: one.conflict for key, one in _grouped(found, lambda one: one.votes).items()}
        yield LayerMap("Sign conflict of the parents", _known(values), sees, share, 0.0, 0.5)
        sees = "of the entries that any parent changed, a faint cell kept few and left the base elsewhere"
        yield LayerMap("What the method kept", _kept(found), sees, share, 0.0, 1.0)
    parents = _by_parent(found, lambda one: one.apart)
    for model in parents:
        name = found.models[model]
        of_parent = partial(_of_parent, model)
        if any(one.changes for one in found.tensors):
            sees = f"strong cells went where {name} went, faint ones elsewhere"
            title = f"Cosine of the change with that of {name}"
            yield number(title, partial(of_parent, lambda one: one.changes), _angle, cosine_text, sees, 1.0)
        else:
            sees = f"strong cells point where those of {name} point"
            title = f"Cosine of the weights with those of {name}"
            yield number(title, partial(of_parent, lambda one: one.apart), _angle, cosine_text, sees, 1.0)
        sees = f"faint cells are nearly those of {name}"
        title = f"How far the result is from {name}"
        yield number(title, partial(of_parent, lambda one: one.apart), _relative, number_text, sees)


def _drawn(
    found: Trace,
    title: str,
    number: Callable[[Traced], Pair | None],
    value: Callable[[Pair], float | None],
    shown: Callable[[float], str],
    sees: str,
    high: float | None = None,
) -> LayerMap:
    values = {key: value(one) for key, one in _grouped(found, number).items()}
    return LayerMap(title, _known(values), sees, shown, 0.0, high)


def _known(values: Mapping[Spot, float | None]) -> dict[Spot, float]:
    return {key: value for key, value in values.items() if value is not None}


def _grouped(found: Trace, number: Callable[[Traced], T | None]) -> dict[Spot, T]:
    """The sums of the tensors of each cell."""
    sums: dict[Spot, T] = {}
    for one in found.tensors:
        if (value := number(one)) is not None:
            key = spot(one.facts, one.name)
            sums[key] = value + sums[key] if key in sums else value
    return sums


def _kept(found: Trace) -> dict[Spot, float]:
    """By cell, entries of the result that differ from the base, of those that any parent changed."""
    moved = _grouped(found, _moved)
    votes = _grouped(found, lambda one: one.votes)
    return {key: min(1.0, moved[key].changed / one.changed) for key, one in votes.items() if one.changed}


def _moved(one: Traced) -> Pair | None:
    return one.moved


def _of_parent(model: int, number: Callable[[Traced], Sequence[Pair]], one: Traced) -> Pair | None:
    """The sums for one parent, which may be there several times."""
    pairs = [pair for parent, pair in zip(one.parents, number(one), strict=False) if parent == model]
    return sum(pairs, Pair()) if pairs else None


def _relative(one: Pair) -> float | None:
    return one.relative


def _angle(one: Pair) -> float | None:
    return one.cosine


def _by_parent(found: Trace, number: Callable[[Traced], Sequence[Pair]]) -> dict[int, Pair]:
    """Sums over all tensors, by parent, in the order of the plan."""
    sums: dict[int, Pair] = {}
    for one in found.tensors:
        for parent, pair in zip(one.parents, number(one), strict=False):
            sums[parent] = sums.get(parent, Pair()) + pair
    return dict(sorted(sums.items()))


def _sum(pairs: Iterator[Pair | None]) -> Pair:
    return sum((one for one in pairs if one is not None), Pair())


def _votes(tensors: Sequence[Traced]) -> Votes:
    return sum((one.votes for one in tensors if one.votes), Votes())


# ---- tensors -----------------------------------------------------------------------------------------------


def _every(found: Trace) -> str:
    rows = []
    for one in found.tensors:
        near = min(range(len(one.apart)), key=lambda i: one.apart[i].relative or 0.0)
        rows.append(
            [
                one.name,
                " × ".join(map(str, one.shape)) or "a number",
                number_text(one.moved.relative if one.moved else None),
                percent_text(one.moved.share_changed if one.moved else None),
                percent_text(one.votes.conflict if one.votes else None),
                found.models[one.parents[near]],
                number_text(one.apart[near].relative),
            ]
        )
    heading = [
        "tensor",
        "shape",
        "moved",
        "entries changed",
        "sign conflict",
        "nearest parent",
        "away from it",
    ]
    return data_table(heading, rows, closed=counted(len(rows), "tensor"))


def _skipped(found: Trace, why: str) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in found.skipped.items():
        reasons.setdefault(reason, []).append(name)
    if why:
        return [paragraph(why)]
    if not reasons:
        return [paragraph("Every tensor was compared.")]
    rows = [[reason, str(len(names)), some(names, 3, mark="")] for reason, names in reasons.items()]
    return [data_table(["why", "tensors", "names"], rows)]
