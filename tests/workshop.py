"""A folder of models to merge, and a short way to say which rows came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import read_config, read_tensors, registry
from tiny_tokenizers import TOKENS, tokenizer_json, write_model
from tokenizers import Tokenizer

from mergecore import Plan, merge, plan
from mergecore.errors import MergecoreError, Problems
from mergecore.types.execution import RunOptions
from mergecore.types.plans import PlanOptions

UNITS = {"a": 1.0, "b": 1000.0, "c": 1000000.0}
"""What a row is a multiple of: row i of model b is (i + 1) times 1000."""


class Workshop:
    """Models called a, b and c in the current folder, and what merging them gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = registry()

    def model(
        self,
        name: str,
        tokens: Sequence[str] | None = None,
        added: Sequence[str] = (),
        *,
        kind: str = "BPE",
        rows: int | None = None,
        tokenizer: bool = True,
        **changes: Any,
    ) -> Path:
        """Write a model; without `tokens` those of its kind, without `rows` as many as it has tokens."""
        tokens = TOKENS[kind] if tokens is None else tokens
        document = tokenizer_json(kind, tokens, added) if tokenizer else None
        count = len(tokens) + len(added) if rows is None else rows
        return write_model(self.folder / name, document, count, UNITS.get(name, 1.0), **changes)

    def config(self, models: str = "ab", base: str | None = "a", **config: Any) -> dict[str, Any]:
        """A linear merge with the weight 1 for each model, so that rows add up."""
        listed = [{"model": name, "parameters": {"weight": 1}} for name in models]
        made: dict[str, Any] = {
            "merge_method": "linear",
            "models": listed,
            "parameters": {"normalize": False},
        }
        if base:
            made["base_model"] = base
        return {**made, "dtype": "float32", **config}

    def plan(self, config: dict[str, Any], **options: Any) -> Plan:
        """The plan of a config."""
        return plan(config, registry=self.registry, options=PlanOptions(**options))

    def merge(self, config: dict[str, Any], **options: Any) -> Path:
        """The merged model, in place of an earlier one."""
        return merge(
            config,
            self.folder / "out",
            registry=self.registry,
            plan_options=PlanOptions(**options),
            run_options=RunOptions(overwrite=True),
        )

    def rows(self, config: dict[str, Any], **options: Any) -> list[float]:
        """The first column of the merged embeddings; the head, if there is one, must say the same."""
        tensors = read_tensors(self.merge(config, **options))
        embedded = tensors["model.embed_tokens.weight"]
        assert (embedded == embedded[:, :1]).all()
        if "lm_head.weight" in tensors:
            assert (tensors["lm_head.weight"] == -embedded).all()
        assert read_config(self.folder / "out")["vocab_size"] == len(embedded)
        values: list[float] = embedded[:, 0].tolist()
        return values

    def refusal(self, config: dict[str, Any], **options: Any) -> str:
        """Codes and texts of everything that is wrong."""
        with pytest.raises(MergecoreError) as caught:
            self.plan(config, **options)
        errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
        return "\n".join(f"{one.code} {one}" for one in errors)

    def tokenizer(self, name: str = "out") -> Tokenizer:
        """The tokenizer of a model."""
        return Tokenizer.from_file(str(self.folder / name / "tokenizer.json"))

    def json(self, name: str, folder: str = "out") -> dict[str, Any]:
        """A JSON file of a model."""
        value: dict[str, Any] = json.loads((self.folder / folder / name).read_text())
        return value
