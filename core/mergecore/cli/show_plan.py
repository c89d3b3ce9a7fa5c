"""What `mergecore plan` prints."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mergecore.cli.show_documents import documents_as_json, documents_as_text
from mergecore.engine.memory import Estimate, estimate
from mergecore.errors import ConfigError, counted, printable
from mergecore.files.dtypes import DTYPES, nbytes
from mergecore.files.sizes import size_text
from mergecore.planning.toolkit import methods_of
from mergecore.planning.vocabulary.embedding_rows import rows_in_words
from mergecore.plugins.registry import Registry
from mergecore.types import Checkpoint, Json, Module, MovedRows, OutputTensor, Plan, Step, TensorInput


def plan_shown(plan: Plan, registry: Registry, given: Mapping[str, Any], pattern: str | None = None) -> str:
    """A plan as a command shows it; of the tensors, those that match `pattern`.

    given: the options of the command by name; `as_json`, `threads` and `max_memory` among them.

    Raises:
        MergecoreError: E405 when it needs more memory than it may take, E115 when no tensor matches.
    """

    def needed(one: Plan) -> Estimate:
        return estimate(one, methods_of(one, registry)[0], given["threads"], given["max_memory"])

    before = [(one.name, one.plan, needed(one.plan)) for one in plan.earlier]
    there = given.get("there", ())
    if given["as_json"]:
        earlier: list[Json] = [{"name": name, **plan_as_json(one, memory)} for name, one, memory in before]
        value = plan_as_json(plan, needed(plan), pattern)
        value |= {"documents": documents_as_json(plan, there)} if plan.documents else {}
        return json.dumps({**value, **({"earlier": earlier} if earlier else {})})
    graph = ["\n".join(["documents", *documents_as_text(plan, there), ""])] if plan.documents else []
    texts = [
        f"{name}: a plan that comes before\n\n{plan_as_text(one, memory)}\n" for name, one, memory in before
    ]
    last = plan_as_text(plan, needed(plan), pattern)
    return "\n".join([*graph, *texts, f"and then\n\n{last}" if texts else last])


def plan_as_text(plan: Plan, memory: Estimate, pattern: str | None = None) -> str:
    """Models, what becomes of their tensors, layout, memory, warnings; and the tensors that match `pattern`."""
    lines = ["models", *_models(plan), "", "output", *_output(plan, memory)]
    if modules := _modules_of(plan):
        lines += ["", "modules", *map(_module, modules)]
    for prefix, layers in plan.layers.items():
        lines += ["", f"layers {prefix}*", *_layers(plan, layers)]
    if plan.dropped:
        lines += ["", "not in the output"]
        lines += [
            f"  {plan.models[one.model].name}: {_some(one.names)}: {one.reason}" for one in plan.dropped
        ]
    if plan.warnings:
        lines += ["", "warnings", *(f"  {text}" for text in plan.warnings)]
    if pattern is not None:
        lines += ["", *(line for step in matching(plan, pattern) for line in _tensor(plan, step))]
    return "\n".join(map(printable, lines))


def plan_as_json(plan: Plan, memory: Estimate, pattern: str | None = None) -> dict[str, Json]:
    """The same facts as plain values; all tensors without a pattern."""
    return {
        "models": [
            {"reference": one.name, "revision": one.revision, "tensors": len(one.tensors)}
            for one in plan.models
        ],
        "primary": plan.models[plan.primary].name,
        "bytes": plan.layout.size,
        "files": [{"name": file.name, "size": file.size} for file in plan.layout.files],
        "workers": memory.workers,
        "peak_memory": memory.peak,
        "warnings": list(plan.warnings),
        "dropped": [
            {"model": plan.models[one.model].name, "names": list(one.names), "reason": one.reason}
            for one in plan.dropped
        ],
        "decided": dict(plan.decided),
        "layers": {
            prefix: [[plan.models[model].name, index] for model, index in layers]
            for prefix, layers in plan.layers.items()
        },
        "modules": [
            {
                "name": one.name,
                "layers": one.stack.prefix if one.stack else None,
                "aliases": list(one.aliases),
            }
            for one in _modules_of(plan)
        ],
        "tensors": [_tensor_as_json(plan, step) for step in matching(plan, pattern or "*")],
    }


def check_as_text(plan: Plan, config: Path) -> str:
    """That a config can be merged, in a line, and the warnings."""
    models = counted(len(plan.models), "model")
    size = size_text(plan.layout.size)
    line = f"{config}: {counted(len(plan.layout.slots), 'tensor')} of {models} can be merged, into {size}"
    return "\n".join(map(printable, [line, *(f"warning: {text}" for text in _all_warnings(plan))]))


def check_as_json(plan: Plan) -> dict[str, Json]:
    """The same as plain values."""
    return {
        "models": [model.name for model in plan.models],
        "tensors": len(plan.layout.slots),
        "bytes": plan.layout.size,
        "warnings": [*_all_warnings(plan)],
    }


def _all_warnings(plan: Plan) -> Iterator[str]:
    """Those of the plans that come before, then its own."""
    for one in plan.earlier:
        yield from (f"{one.name}: {text}" for text in one.plan.warnings)
    yield from plan.warnings


def matching(plan: Plan, pattern: str) -> list[Step]:
    """The steps whose output name matches a glob, anywhere in the name.

    Raises:
        ConfigError: E105 when there is none.
    """
    found = [
        step for step in plan.steps if any(fnmatchcase(one.name, f"*{pattern}*") for one in step.outputs)
    ]
    if not found and plan.steps:
        hint = f"the first is '{plan.steps[0].name}'"
        raise ConfigError("E105", f"no output tensor matches '{pattern}'", hint=hint)
    return found


def _models(plan: Plan) -> list[str]:
    lines = []
    for number, model in enumerate(plan.models):
        description = plan.descriptions[number] if plan.descriptions else None
        family = description.family if description else ""
        formats = Counter(tensor.dtype for tensor in model.tensors.values())
        found = description.stacks if description else ()
        stacks = ", ".join(f"{stack.count} × {stack.prefix.rstrip('.')}" for stack in found)
        size = size_text(_size(model))
        gives = number == plan.primary and "config.json" in plan.side_files
        primary = "; gives config and side files" if gives else ""
        mapped = f"; {model.mapped}" if model.mapped else ""
        revision = f" at {model.revision[:12]}" if model.revision else ""
        lines.append(
            f"  {model.name}{revision}: {family or 'unknown family'}, {counted(len(model.tensors), 'tensor')}, "
            f"{size}, {'/'.join(formats)}{f', {stacks}' if stacks else ''}{primary}{mapped}"
        )
    return lines


def _size(model: Checkpoint) -> int:
    """The bytes of the files of a model; of its tensors where it is made of other models while it is read."""
    if model.parts:
        return sum(nbytes(one.dtype, one.shape) for one in model.tensors.values())
    return sum(file.size for file in model.weight_files)


def _output(plan: Plan, memory: Estimate) -> list[str]:
    made = [(step.method or "copied", one.dtype) for step in plan.steps for one in step.outputs]
    methods, formats = Counter(method for method, _ in made), Counter(dtype for _, dtype in made)
    files = plan.layout.files
    names = (
        files[0].name if len(files) == 1 else f"{files[0].name} … {files[-1].name}" if files else "no file"
    )
    alone = plan.doing and len(methods) == 1  # what is done to all tensors was said before
    how = "" if alone else ": " + ", ".join(f"{count} {name}" for name, count in methods.items())
    return [
        f"  {counted(len(made), 'tensor')}{how}",
        f"  {size_text(plan.layout.size)} of {'/'.join(str(DTYPES[name].torch_name) for name in formats)} in {names}",
        f"  about {size_text(memory.peak)} of memory with {counted(memory.workers, 'worker')}",
        f"  seed {plan.seed}",
        *(f"  {name.replace('_', ' ')}: {_shown(value)}" for name, value in plan.decided.items()),
    ]


def _modules_of(plan: Plan) -> tuple[Module, ...]:
    return plan.descriptions[plan.primary].modules if plan.descriptions else ()


def _module(module: Module) -> str:
    layers = f", {module.stack.count} × {module.stack.prefix.rstrip('.')}" if module.stack else ""
    aliases = f" (also {', '.join(module.aliases)})" if module.aliases else ""
    return f"  {module.name}{aliases}{layers}"


def _layers(plan: Plan, layers: Sequence[tuple[int, int]]) -> list[str]:
    """Runs of consecutive layers of one model, with both ends included."""
    runs: list[tuple[int, int, int, int]] = []  # model, first layer, last layer, first output layer
    for out, (model, layer) in enumerate(layers):
        if runs and runs[-1][0] == model and runs[-1][2] == layer - 1:
            runs[-1] = (model, runs[-1][1], layer, runs[-1][3])
        else:
            runs.append((model, layer, layer, out))
    lines = [
        f"  {out} to {out + last - first} from layers {first} to {last} of {plan.models[model].name}"
        if last > first
        else f"  {out} from layer {first} of {plan.models[model].name}"
        for model, first, last, out in runs
    ]
    return [*lines, f"  {counted(len(layers), 'layer')} in all"]


def _tensor(plan: Plan, step: Step) -> list[str]:
    role = f", {step.role}" if step.role else ""
    depth = (
        f", layer {step.depth.index + 1} of {step.depth.count} (t = {step.depth.t:.4g})" if step.depth else ""
    )
    lines = [
        f"{one.name} {list(one.shape)} {DTYPES[one.dtype].torch_name}{role}{depth}" for one in step.outputs
    ]
    lines.append(f"  {step.method or 'copied'}{f': {step.note}' if step.note else ''}")
    if step.base:
        lines.append(f"  base {_source(plan, step.base)}")
    lines += [f"  from {_source(plan, one)}" for one in step.inputs]
    lines += [f"  looks at {_source(plan, one)}" for one in step.matrices]
    values = step.params.model_dump(by_alias=True) if step.params is not None else {}
    if values:
        lines.append("  with " + ", ".join(f"{name} {_shown(value)}" for name, value in values.items()))
    return lines


def _source(plan: Plan, one: TensorInput) -> str:
    data, rows, tensor = one.tensor.data, "", one.tensor
    if isinstance(data, MovedRows):
        rows = f", rows: {rows_in_words(data, lambda model: plan.models[model].name)}"
        tensor = data.sources[0].tensor
    stored = [each.name for each in tensor.stored]
    if not stored:
        return f"{plan.models[one.model].name}: computed from nothing {tensor.dtype}"
    more = f" and {len(stored) - 1} more" if len(stored) > 1 else ""
    part = "part of " if len(stored) == 1 and tensor.count < math.prod(tensor.stored[0].shape) else ""
    made = "computed from " if tensor.data.computed else part
    return f"{plan.models[one.model].name}: {made}{stored[0]}{more} {tensor.dtype}{rows}"


def _some(names: Sequence[str]) -> str:
    """How many names there are, and the first."""
    return f"{counted(len(names), 'tensor')} ({names[0]}{', …' if len(names) > 1 else ''})"


def _shown(value: object) -> str:
    """A value as a config would have it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_shown(one) for one in value)}]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _output_as_json(one: OutputTensor) -> dict[str, Json]:
    return {"name": one.name, "dtype": one.dtype, "shape": list(one.shape)}


def _tensor_as_json(plan: Plan, step: Step) -> dict[str, Json]:
    return {
        **_output_as_json(step.outputs[0]),
        **({"further": [_output_as_json(one) for one in step.outputs[1:]]} if step.outputs[1:] else {}),
        "method": step.method,
        "note": step.note,
        "role": step.role,
        "t": step.depth.t if step.depth else None,
        "base": _source(plan, step.base) if step.base else None,
        "inputs": [_source(plan, one) for one in step.inputs],
        "matrices": [_source(plan, one) for one in step.matrices],
        "parameters": step.params.model_dump(mode="json", by_alias=True) if step.params is not None else None,
    }
