"""The difference of two vocabularies as text and as plain values; read `difference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mergecore import Planner, PlanOptions, Registry, planner
from mergecore.errors import InputError, MergecoreError, Problems, counted
from mergecore.tokenizers import Comparison, compare
from mergecore.types import (
    Checkpoint,
    Json,
    TokenizerRequest,
    TokenizerStrategy,
    TokenTable,
    Vocabulary,
)


@dataclass(frozen=True)
class Outcome:
    """What a strategy would do."""

    strategy: str
    size: int | None
    own: tuple[int, ...]
    """Rows that each model has for the ids of the output."""
    files: str
    """Whether tokenizer files are copied or changed."""
    warnings: tuple[str, ...] = ()
    refusal: str = ""

    def told(self, names: Sequence[str]) -> str:
        """One line, and one for each warning."""
        if self.refusal:
            return f"refused: {self.refusal}"
        size = "the rows stay where they are" if self.size is None else f"{self.size} rows"
        own = ", ".join(f"{count} of them in {name}" for name, count in zip(names, self.own, strict=False))
        facts = [size, *([own] if own and self.size is not None else []), f"files {self.files}"]
        return "\n    ".join(["; ".join(facts), *self.warnings])


@dataclass(frozen=True)
class Difference:
    """Two models, their vocabularies, and what the strategies would do."""

    names: tuple[str, str]
    tables: tuple[TokenTable, TokenTable]
    comparison: Comparison
    outcomes: tuple[Outcome, ...]

    def as_text(self, most: int | None) -> str:
        """For readers, with no more than `most` tokens of a kind."""
        lines = [_described(name, table) for name, table in zip(self.names, self.tables, strict=True)]
        lines += ["", self.comparison.told(*self.names), *self._tokens(most)]
        lines += ["", f"with {self.names[0]} as the base"]
        lines += [f"  {outcome.strategy}: {outcome.told(self.names)}" for outcome in self.outcomes]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Json]:
        """For programs, everything."""
        found = self.comparison
        return {
            "models": [
                {"model": name, "file": table.file, "kind": table.kind, "tokens": len(table.ids)}
                for name, table in zip(self.names, self.tables, strict=True)
            ],
            "shared": found.same,
            "moved": list(found.moved),
            "only_in_a": list(found.left),
            "only_in_b": list(found.right),
            "renamed": [[number, one, other] for number, one, other in found.renamed],
            "strategies": {
                one.strategy: {
                    "refusal": one.refusal or None,
                    "rows": one.size,
                    "own_rows": list(one.own),
                    "files": one.files,
                    "warnings": list(one.warnings),
                }
                for one in self.outcomes
            },
        }

    def _tokens(self, most: int | None) -> list[str]:
        left, right = self.tables
        moved = [f"'{token}' {left.ids[token]}, {right.ids[token]}" for token in self.comparison.moved]
        renamed = [f"{number} '{one}', '{other}'" for number, one, other in self.comparison.renamed]
        parts = [
            (f"only in {self.names[0]}", [_told(token, left) for token in self.comparison.left]),
            (f"only in {self.names[1]}", [_told(token, right) for token in self.comparison.right]),
            ("in both, with other ids", moved),
            ("ids that stand for two tokens", renamed),
        ]
        return [line for title, tokens in parts if tokens for line in _listed(title, tokens, most)]


def difference(a: str, b: str, registry: Registry, offline: bool = False) -> Difference:
    """How the vocabularies of two models differ, named as in a config.

    Raises:
        MergecoreError: what is wrong with a model, E240 when one has no tokenizer.
    """
    opening = planner(registry=registry, options=PlanOptions(offline))
    models = tuple(_opened(text, opening) for text in (a, b))
    request = TokenizerRequest(
        read=opening.vocabulary,
        models=models,
        primary=0,
        descriptions=tuple(opening.describe(model) for model in models),
        source=models[1],
    )
    left, right = (_table(model, request) for model in models)
    outcomes = [_outcome(strategy, request) for strategy in registry.all(TokenizerStrategy)]
    names = (models[0].name, models[1].name)
    return Difference(names, (left, right), compare(left, right), tuple(outcomes))


def _opened(text: str, opening: Planner) -> Checkpoint:
    """A model, without its weights when it has none."""
    try:
        return opening.open(text)
    except MergecoreError as error:
        wrong = error.errors if isinstance(error, Problems) else (error,)
        if all(one.code != "E201" for one in wrong):
            raise
        return opening.open(text, weights=False)


def _table(model: Checkpoint, request: TokenizerRequest) -> TokenTable:
    table = request.read(model)
    if table is None:
        raise InputError("E240", "it has no tokenizer", place=model.name)
    return table


def _outcome(strategy: TokenizerStrategy[Any], request: TokenizerRequest) -> Outcome:
    try:
        made: Vocabulary = strategy.build(request, strategy.params())
    except MergecoreError as error:
        first = error.first if isinstance(error, Problems) else error
        return Outcome(strategy.name, None, (), "", refusal=f"{first.code} {first}")
    own = tuple(0 if rows is None else sum(int(row) >= 0 for row in rows) for rows in made.rows)
    changed = [name for name, content in made.files.items() if isinstance(content, bytes)]
    files = f"changed: {', '.join(changed)}" if changed else "copied"
    return Outcome(strategy.name, made.size, own, files, made.warnings)


def _described(name: str, table: TokenTable) -> str:
    last = max(table.ids.values(), default=-1)
    kind = f"{table.kind} in " if table.kind else ""
    tokens = f"{counted(len(table.ids), 'token')}, {len(table.added)} of them added"
    return f"{name}: {tokens}, ids up to {last}; {kind}{table.file}"


def _told(token: str, table: TokenTable) -> str:
    return f"'{token}' {table.ids[token]}{' added' if token in table.added else ''}"


def _listed(title: str, tokens: Sequence[str], most: int | None) -> list[str]:
    shown = [f"  {token}" for token in tokens[:most]]
    more = (
        [] if most is None or len(tokens) <= most else [f"  and {len(tokens) - most} more; --all lists them"]
    )
    return ["", title, *shown, *more]
