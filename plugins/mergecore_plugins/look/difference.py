"""What two models differ in, beside their weights and with them; read `difference`, then `Difference`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergecore import Planner, PlanOptions, Registry, planner
from mergecore.errors import counted, some
from mergecore.tokenizers import compare, template_of
from mergecore.types import Checkpoint, Json
from mergecore_plugins.look.comparing import Comparison, Measured, compared
from mergecore_plugins.look.kinship import Kinship, kinship
from mergecore_plugins.look.pairs import Pair
from mergecore_plugins.look.tables import fitting, rows_by_layer, rows_by_role, table

LARGEST = 5
"""How many tensors that moved farthest are named."""


@dataclass(frozen=True)
class Difference:
    """Two models, perhaps beside a base."""

    models: tuple[str, ...]
    """Each in a line."""
    comparison: Comparison
    kinship: Kinship
    config: Mapping[str, tuple[Json, ...]]
    """Keys of config.json with values that differ; None where a model lacks one."""
    vocabulary: str
    template: str

    def as_text(self) -> str:
        """Lines of no more than 80 columns, but for names that are longer."""
        found = self.comparison
        lines = [f"{label}  {text}" for label, text in zip(found.labels, self.models, strict=True)]
        lines += ["", *_counted(found), ""]
        if found.measured:
            lines += [*_legend(found), ""]
            for rows in (rows_by_role(found), rows_by_layer(found)):
                lines += [*fitting(table(rows, found.with_base)), ""] if rows else []
            lines += [*_farthest(found), ""]
        lines += [f"config.json  {_config_text(self.config)}"]
        lines += [f"vocabulary   {self.vocabulary}", f"template     {self.template}", "", self.kinship.text]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Json]:
        """Everything, tensor by tensor."""
        found = self.comparison
        return {
            "models": list(found.names),
            "kinship": {"verdict": self.kinship.verdict, "text": self.kinship.text},
            "tensors": [_as_json(one) for one in found.measured],
            "skipped": dict(found.skipped),
            "only": {name: list(names) for name, names in found.only.items()},
            "config": {key: list(values) for key, values in self.config.items()},
            "vocabulary": self.vocabulary,
            "template": self.template,
        }


def difference(
    a: str,
    b: str,
    base: str | None,
    registry: Registry,
    *,
    offline: bool = False,
    rank: bool = False,
    threads: int | None = None,
) -> Difference:
    """How two models differ, named as in a config; every weight is read once.

    Raises:
        MergecoreError: what is wrong with a model.
    """
    opening = planner(registry=registry, options=PlanOptions(offline))
    models = [opening.open(text) for text in (a, b, *([base] if base else []))]
    found = compared(models, opening.describe(models[0]), threads=threads, rank=rank)
    return Difference(
        tuple(_described(model, opening) for model in models),
        found,
        kinship(found),
        _config_of(models),
        _vocabulary(models[:2], opening),
        _template(models[:2]),
    )


# ---- words -------------------------------------------------------------------------------------------------


def _described(model: Checkpoint, opening: Planner) -> str:
    from mergecore_plugins.look.contents import headline

    return headline(model, opening.describe(model))


def _counted(found: Comparison) -> list[str]:
    lines = [f"{counted(len(found.measured), 'tensor')} can be compared"]
    if found.skipped:
        reasons = [f"{name}: {why}" for name, why in found.skipped.items()]
        lines += [f"{len(found.skipped)} cannot: {some(reasons, 3)}"]
    lines += [
        f"{len(names)} only in {model}: {some(names, 3)}" for model, names in found.only.items() if names
    ]
    return lines


def _legend(found: Comparison) -> list[str]:
    if found.with_base:
        return [
            "moved: |A - C| / |C| and |B - C| / |C|; changed: entries of A / of B that",
            "differ from C; cosine and same sign: of the changes A - C and B - C",
        ]
    return [
        "moved: |B - A| / |A|; changed: entries that differ; cosine and same sign: of",
        "the weights A and B",
    ]


def _farthest(found: Comparison) -> list[str]:
    def moved(one: Measured) -> float:
        return max(pair.relative or 0.0 for pair in one.pairs)

    far = [one for one in sorted(found.measured, key=moved, reverse=True)[:LARGEST] if moved(one)]
    if not far:
        return ["no tensor moved"]
    return ["moved farthest", *(f"  {one.name} {moved(one):.3g}" for one in far)]


def _config_text(config: Mapping[str, Sequence[Json]]) -> str:
    if not config:
        return "the same"
    return some([f"{key} {', '.join(map(_short, values))}" for key, values in config.items()], 4)


def _short(value: Json) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


def _config_of(models: Sequence[Checkpoint]) -> dict[str, tuple[Json, ...]]:
    keys = dict.fromkeys(key for model in models for key in model.config)
    values = {key: tuple(model.config.get(key) for model in models) for key in keys}
    return {key: each for key, each in values.items() if any(one != each[0] for one in each)}


def _vocabulary(models: Sequence[Checkpoint], opening: Planner) -> str:
    tables = [opening.vocabulary(model) for model in models]
    if tables[0] is None or tables[1] is None:
        lacking = [model.name for model, one in zip(models, tables, strict=True) if one is None]
        return f"no tokenizer in {' and '.join(lacking)}"
    found = compare(tables[0], tables[1])
    return "the same" if not found.differing and tables[0].ids == tables[1].ids else found.told("A", "B")


def _template(models: Sequence[Checkpoint]) -> str:
    texts = [template_of(model.side_files, model.name) for model in models]
    lacking = [label for label, text in zip("AB", texts, strict=True) if text is None]
    if len(lacking) == 2:
        return "none"
    if lacking:
        return f"none in {lacking[0]}"
    return "the same" if texts[0] == texts[1] else "another"


# ---- plain values ------------------------------------------------------------------------------------------


def _as_json(one: Measured) -> dict[str, Json]:
    names = ("a", "b") if one.between else ("b",)
    found: dict[str, Any] = {
        "name": one.name,
        "shape": list(one.shape),
        "dtypes": list(one.dtypes),
        "layer": one.facts.layer,
        "role": one.facts.role,
        **{f"change_{name}": _values(pair) for name, pair in zip(names, one.pairs, strict=True)},
    }
    if one.between:
        found["changes"] = {"cosine": one.between.cosine, "same_sign": one.between.same_sign}
    if one.ranks:
        found["effective_rank"] = list(one.ranks)
    return found


def _values(one: Pair) -> dict[str, Json]:
    return {
        "relative": one.relative,
        "cosine": one.cosine,
        "same_sign": one.same_sign,
        "changed": one.share_changed,
        "largest": one.largest,
    }
