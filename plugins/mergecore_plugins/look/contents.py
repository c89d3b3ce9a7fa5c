"""What is in a model, from its headers and small files; read `inspected`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mergecore import PlanOptions, Registry, planner
from mergecore.errors import counted, some
from mergecore.files import DTYPES
from mergecore.models import is_terms
from mergecore.tokenizers import template_of
from mergecore.types import Checkpoint, Description, Json, TokenTable


@dataclass(frozen=True)
class Contents:
    """A model, described: facts by name, its tensors by role, and what is odd about it."""

    name: str
    facts: dict[str, Json]
    roles: dict[str, tuple[int, int]]
    """By role, how many tensors there are, and how many entries they have."""
    odd: tuple[str, ...]

    def as_text(self) -> str:
        """A line for each fact."""
        lines = [self.name]
        lines += [
            f"  {key:<12} {_said(value)}" for key, value in self.facts.items() if value not in (None, "", [])
        ]
        width = max((len(role) for role in self.roles), default=0)
        lines += ["", "  role, tensors, parameters"] if self.roles else []
        lines += [
            f"    {role:<{width}}  {count:>6}  {in_words(entries):>8}"
            for role, (count, entries) in self.roles.items()
        ]
        lines += ["", *(f"  odd: {text}" for text in self.odd)] if self.odd else []
        return "\n".join(lines)

    def as_json(self) -> dict[str, Json]:
        """Plain values, a key for each fact."""
        roles: dict[str, Json] = {
            role: {"tensors": count, "parameters": entries} for role, (count, entries) in self.roles.items()
        }
        return {"model": self.name, **self.facts, "roles": roles, "odd": list(self.odd)}


def inspected(model: str, registry: Registry, *, offline: bool = False) -> Contents:
    """What is in a model that is named as in a config; no weight is read.

    Raises:
        MergecoreError: what is wrong with it.
    """
    opening = planner(registry=registry, options=PlanOptions(offline))
    opened = opening.open(model)
    description = opening.describe(opened)
    vocabulary = opening.vocabulary(opened)
    template = template_of(opened.side_files, opened.name)
    formats = Counter(one.dtype for one in opened.tensors.values())
    facts: dict[str, Json] = {
        "family": description.family or "unknown",
        "class": ", ".join(map(str, _list(opened.config.get("architectures")))),
        "layers": [f"{one.count} in {one.prefix.rstrip('.')}" for one in description.stacks],
        "modules": [one.name for one in description.modules],
        "parameters": sum(math.prod(one.shape) for one in opened.tensors.values()),
        "bytes": sum(one.size for one in opened.weight_files),
        "formats": [f"{counted(count, 'tensor')} {name}" for name, count in formats.most_common()],
        "tied": [f"{one} is {other}" for one, other in description.tied.items()],
        "tokenizer": _tokenizer(vocabulary),
        "template": counted(len(template), "character") if template else "none",
        "terms": [name for name in opened.side_files if is_terms(name)],
        "revision": opened.revision or "",
    }
    roles: dict[str, tuple[int, int]] = {}
    for name, one in opened.tensors.items():
        role = description.tensors[name].role if name in description.tensors else ""
        count, entries = roles.get(role or "other", (0, 0))
        roles[role or "other"] = (count + 1, entries + math.prod(one.shape))
    return Contents(opened.name, facts, roles, tuple(_odd(opened, description, vocabulary)))


def headline(model: Checkpoint, description: Description) -> str:
    """A model in a line: family, layers, parameters, formats, and its name."""
    entries = sum(math.prod(one.shape) for one in model.tensors.values())
    layers = f", {counted(description.main.count, 'layer')}" if description.main else ""
    formats = "/".join(dict.fromkeys(one.dtype for one in model.tensors.values()))
    return f"{model.name}: {description.family or 'unknown family'}{layers}, {in_words(entries)} parameters, {formats}"


def in_words(number: int) -> str:
    """A number of parameters in words, such as `135 M`."""
    for unit, worth in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= worth:
            return f"{number / worth:.3g} {unit}"
    return str(number)


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _said(value: Json) -> str:
    if isinstance(value, list):
        more = f", and {len(value) - 4} more" if len(value) > 4 else ""
        return f"{', '.join(map(str, value[:4]))}{more}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _tokenizer(table: TokenTable | None) -> str:
    return "none" if table is None else f"{table.kind}, {counted(len(table.ids), 'token')} in {table.file}"


# ---- what is odd -------------------------------------------------------------------------------------------


def _odd(model: Checkpoint, description: Description, vocabulary: TokenTable | None) -> Iterator[str]:
    """What a reader would want to know before a merge."""
    if not model.config:
        yield "there is no config.json, so nothing says what kind of model it is"
    if vocabulary is None:
        yield "there is no tokenizer"
    floats = Counter(one.dtype for one in model.tensors.values() if DTYPES[one.dtype].floating)
    if len(floats) > 1:
        yield f"its weights have several formats: {', '.join(f'{n} {name}' for name, n in floats.most_common())}"
    others = [one.name for one in model.tensors.values() if not DTYPES[one.dtype].floating]
    if others:
        count = f"{counted(len(others), 'tensor')} {_are(others)}"
        yield f"{count} not of floats, such as quantised ones or buffers: {some(others, 3)}"
    empty = [one.name for one in model.tensors.values() if not math.prod(one.shape)]
    if empty:
        yield f"{counted(len(empty), 'tensor')} {_are(empty)} empty: {some(empty, 3)}"
    yield from _odd_layers(model, description)
    rows = {one.shape[0] for name, one in model.tensors.items() if _is_embedding(description, name)}
    if vocabulary is not None and rows and max(vocabulary.ids.values(), default=-1) >= min(rows):
        yield f"the tokenizer has ids up to {max(vocabulary.ids.values())}, the embeddings {min(rows)} rows"


def _odd_layers(model: Checkpoint, description: Description) -> Iterator[str]:
    """Layers that hold other tensors than most of their stack."""
    for stack in description.stacks:
        kinds: dict[frozenset[tuple[str, tuple[int, ...]]], list[int]] = {}
        for layer in range(stack.count):
            inside = frozenset(
                (facts.suffix, model.tensors[name].shape)
                for name, facts in description.tensors.items()
                if facts.stack == stack.prefix and facts.layer == layer and name in model.tensors
            )
            kinds.setdefault(inside, []).append(layer)
        if len(kinds) > 1:
            rare = [layer for layers in sorted(kinds.values(), key=len)[:-1] for layer in layers]
            listed = some([str(one) for one in sorted(rare)], 6)
            yield f"{len(kinds)} kinds of layers in {stack.prefix.rstrip('.')}; other than most: {listed}"


def _is_embedding(description: Description, name: str) -> bool:
    facts = description.tensors.get(name)
    return facts is not None and facts.role == "embed" and facts.vocabulary_axis == 0


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"
