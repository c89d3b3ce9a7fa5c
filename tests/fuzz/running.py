"""Runs a case through the product and compares all it wrote with the reference.

The output is read with the safetensors library, and never with the product.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tiny import registry

from fuzz import drawn_vocabularies
from fuzz.cases import Case
from fuzz.judging import judge
from fuzz.models import write
from fuzz.reference.arrays import Array
from fuzz.reference.plans import Outcome, Tensors, outcomes
from fuzz.reference.vocabularies import Worded, rows_of
from mergecore import merge
from mergecore.cli.app import run as command_line
from mergecore.errors import MergecoreError, MergeError
from mergecore.files.sizes import parse_size
from mergecore.types.execution import RunOptions
from mergecore.types.plans import PlanOptions

EXIT_OF_NUMBERS = 5
VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
FORMATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class Report:
    """What came of a case."""

    wrong: list[str]
    tensors: int = 0
    checked: int = 0
    unchecked: int = 0
    worst: float = 0.0
    refused: str = ""


def try_case(case: Case, folder: Path) -> Report:
    """Merge in `folder` and compare."""
    with chdir(folder):
        for one in case.models.values():
            write(one, folder)
        (folder / "config.yml").write_text(json.dumps(case.config, indent=1))
        try:
            _merge(case)
        except MergecoreError as error:
            if error.code == "E404" and _is_hopeless(case):
                return Report([], refused=error.code)
            return Report([f"refused: {error.code} {error}"], refused=error.code)
        except Exception as error:  # noqa: BLE001  # every other one is a bug that the report names
            return Report([f"{type(error).__name__}: {error}"])
        return compare(case, folder / "out")


def _is_hopeless(case: Case) -> bool:
    """Whether the reference finds no result for a tensor either."""
    models = {name: Tensors(one.tensors, one.dtypes) for name, one in case.models.items()}
    if "tokenizer" in case.config or "tokenizer_source" in case.config:
        return False  # the order of the rows is that of an output, and there is none
    found = outcomes(case.config, models, lambda *_: None, int(case.config.get("seed", 0)))
    return any(right.result.hopeless for _, right in found)


def _merge(case: Case) -> None:
    """Write the folder `out`, by the command line or from Python."""
    run = case.run
    if run["command_line"]:
        words = ["merge", "config.yml", "out", "-q", "--threads", str(run["threads"])]
        words += [f"--shard-size={run['shard_size']}"] if run["shard_size"] else []
        words += [f"--max-memory={run['max_memory']}"] if run["max_memory"] else []
        code = command_line(words)
        if code == EXIT_OF_NUMBERS and _is_hopeless(case):
            raise MergeError("E404", "refused, as is right")
        if code:
            raise RuntimeError(f"`mergecore {' '.join(words)}` ends with {code}")
        return
    memory = parse_size(run["max_memory"]) if run["max_memory"] else None
    size = parse_size(run["shard_size"]) if run["shard_size"] else None
    merge(
        case.config,
        "out",
        registry=registry(),
        plan_options=PlanOptions(shard_size=size),
        run_options=RunOptions(threads=run["threads"], max_memory=memory),
    )


def compare(case: Case, out: Path) -> Report:
    """Every tensor of a finished merge against the reference."""
    found = _written(out)
    models = {name: Tensors(one.tensors, one.dtypes) for name, one in case.models.items()}
    rows = _Rows(case, out)
    wrong = list(rows.wrong)
    checked, unchecked, worst = 0, 0, 0.0
    wanted = set()
    for job, right in outcomes(case.config, models, rows, int(case.config.get("seed", 0))):
        wanted.add(job.name)
        if job.name not in found or rows.wrong:
            continue
        told, ratio, sure, doubt = _compared(*found[job.name], right)
        wrong += [f"tensor '{job.name}': {told}"] if told else []
        checked, unchecked, worst = checked + sure, unchecked + doubt, max(worst, ratio)
    if found.keys() != wanted:
        wrong.append(
            f"tensors too many {sorted(found.keys() - wanted)}, lacking {sorted(wanted - found.keys())}"
        )
    return Report(wrong, len(wanted), checked, unchecked, worst)


def _compared(array: Array, dtype: str, right: Outcome) -> tuple[str, float, int, int]:
    """What is wrong with a tensor; its error, and how many entries were compared and how many were not."""
    if dtype != right.dtype:
        return f"is {dtype} where {right.dtype} is right", 0.0, 0, 0
    if right.copied:
        same = array.shape == right.result.value.shape and bool((array == right.result.value).all())
        return "" if same else "is not a copy", 0.0, array.size, 0
    verdict = judge(array, right.result, dtype, right.eps, right.base)
    return verdict.text, verdict.worst, verdict.checked, verdict.unchecked


def _written(folder: Path) -> dict[str, tuple[Array, str]]:
    """All tensors of a folder in float64, with their formats."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # it is not a mapping
                tensor = opened.get_tensor(name)
                assert name not in found, f"'{name}' is in two files"
                found[name] = (tensor.to(torch.float64).numpy(), FORMATS[tensor.dtype])
    return found


class _Rows:
    """The matrices of models in the order of the output's vocabulary, where the config chooses one."""

    def __init__(self, case: Case, out: Path) -> None:
        self.case = case
        self.wrong: list[str] = []
        self.order: list[str] = []
        said = case.config.get("tokenizer") or {}
        self.source = case.config.get("tokenizer_source") or said.get("source")
        self.asked: dict[str, Any] = said.get("tokens", {})
        self.multiple: int = said.get("pad_to_multiple_of") or 1
        if self.source is None:
            return
        self.tokens = {
            name: drawn_vocabularies.ids(dict(one.files["tokenizer.json"]))
            for name, one in case.models.items()
        }
        listed = [one["model"] for one in case.config["models"]]
        self.base = case.config.get("base_model") or listed[0]
        written = drawn_vocabularies.ids(json.loads((out / "tokenizer.json").read_text()))
        self._check(written, [self.base, *listed])
        self.order = sorted(written, key=written.__getitem__)

    def _check(self, written: Mapping[str, int], everyone: Sequence[str]) -> None:
        """Note what is wrong with the output's tokens."""
        start = self.tokens[self.base if self.source in ("base", "union") else str(self.source)]
        wanted = set(start) | set(self.asked)
        if self.source == "union":
            wanted |= {token for name in everyone for token in self.tokens[name]}
        if set(written) != wanted:
            self.wrong.append(
                f"tokens {sorted(set(written) ^ wanted)} are there or not, and should not or be"
            )
        if any(written.get(token) != at for token, at in start.items()):
            self.wrong.append(f"ids of '{self.source}' are not kept")
        if sorted(written.values()) != list(range(len(written))):
            self.wrong.append("ids are not 0, 1, 2 …")

    def __call__(self, model: str, tensor: str, everyone: Sequence[str]) -> Array | None:
        if self.source is None or tensor not in VOCABULARY:
            return None
        others = {
            name: Worded(name, one.tensors[tensor], self.tokens[name])
            for name, one in self.case.models.items()
        }
        length = -(-len(self.order) // self.multiple) * self.multiple
        merged = [others[name] for name in everyone]
        base = others.get(self.case.config.get("base_model", ""))
        return rows_of(others[model], merged, base, self.order, length, self.asked, others)
