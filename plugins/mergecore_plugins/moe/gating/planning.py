"""The step that makes the routers, planned from headers, prompts and tokenizer files; read `gate_step`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergecore.errors import Collector, ConfigError, InputError, Place, counted, some
from mergecore.types import Checkpoint, InMemory, OutputTensor, Step, TensorInfo, TensorInput
from mergecore_plugins.activations import Runnable, runnable
from mergecore_plugins.moe.gating.methods import NAME, GateParams, Rows
from mergecore_plugins.moe.gating.prompts import Cut, Cutter, as_rows, texts_of
from mergecore_plugins.moe.gating.settings import RANDOM, GateKeys, PromptKeys

if TYPE_CHECKING:
    from mergecore import Document, Planner

SHARE = 0.9
"""What the first choice gets of a token of the prompts where the document does not say, in the mode `router_input`."""


@dataclass(frozen=True)
class Router:
    """An output tensor with rows of the gate of a layer: those of the routed experts, or that of a shared one."""

    output: OutputTensor
    layer: int
    first: int
    stop: int


@dataclass(frozen=True)
class GatePlan:
    """The step that makes all routers, and what the user should know."""

    step: Step
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Expert:
    """Where a document names an expert, and its prompts."""

    path: tuple[str | int, ...]
    keys: PromptKeys
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it: `experts.0`."""
        return ".".join(map(str, self.path))


def gate_step(
    document: Document,
    planner: Planner,
    keys: GateKeys,
    base: Checkpoint,
    routers: Sequence[Router],
    experts: Sequence[PromptKeys],
    shared: Sequence[PromptKeys] = (),
    *,
    model: int = 0,
) -> GatePlan:
    """The step that makes the `routers` of a mixture with the attention of `base`, for modes that look at prompts.

    experts: those of which the routers choose.  shared: those behind them that have a gate of their own.
    model: the number of `base` among the models of the plan.

    Raises:
        ConfigError: E104, E105 for prompts and settings that cannot be used.
        InputError: E224, E231 and E240 for a base that cannot be run, or that has no tokenizer; several as `Problems`.
    """
    assert keys.gate_mode not in RANDOM
    problems = Collector()
    everyone = [
        *_read(document, "experts", experts, problems),
        *_read(document, "shared_experts", shared, problems),
    ]
    with problems.collecting():
        _check_share(document, keys, len(experts))
    run, cuts = _opened(document, planner, keys, base, everyone, problems)
    params = GateParams(
        mode=keys.gate_mode,
        routed=len(experts),
        shared=len(shared),
        share=_share(keys),
        center=keys.gate_center,
        outputs=tuple(Rows(layer=one.layer, first=one.first, stop=one.stop) for one in routers),
        layout=run.layout,
        tokens=sum(len(one.ids) for one in cuts),
    )
    prompts = _as_tensor(cuts)
    step = Step(
        outputs=tuple(one.output for one in routers),
        inputs=(),
        method=NAME,
        params=params,
        role="router",
        note=f"{keys.gate_mode}: from {counted(len(cuts), 'prompt')}, {counted(params.tokens, 'token')}",
        matrices=(TensorInput(model, prompts), *run.inputs(model).values()),
    )
    return GatePlan(step, tuple(_warnings(everyone, keys)))


def _share(keys: GateKeys) -> float | None:
    """The share of first choices, where rows are scaled for one."""
    return SHARE if keys.top1_share is None and keys.gate_mode == "router_input" else keys.top1_share


def _opened(
    document: Document,
    planner: Planner,
    keys: GateKeys,
    base: Checkpoint,
    experts: Sequence[_Expert],
    problems: Collector,
) -> tuple[Runnable, list[Cut]]:
    """How the base is run, and the tokens of all prompts; raises all problems."""
    run: Runnable | None = None
    with problems.collecting():
        run = runnable(planner, base)
        if keys.gate_mode == "router_input" or keys.top1_share is not None:
            _check_seen(base, run)
    cuts: list[Cut] = []
    with problems.collecting():
        _check_tokenizer(planner, base)
        cutter = Cutter(base, keys.chat_prompts)
        cutter.check()
        cuts = [*_cuts(document, cutter, run, experts, problems)]
    problems.raise_any()
    assert run is not None
    return run, cuts


def _as_tensor(cuts: Sequence[Cut]) -> TensorInfo:
    """The prompts as a tensor that the step reads."""
    import numpy as np

    return TensorInfo("prompts", InMemory("prompts", np.array(as_rows(cuts), dtype=np.int64)))


def _read(
    document: Document, key: str, experts: Sequence[PromptKeys], problems: Collector
) -> Iterator[_Expert]:
    """The prompts of experts; each needs positive ones."""
    for index, keys in enumerate(experts):
        found: dict[str, tuple[str, ...]] = {"positive": (), "negative": ()}
        for polarity in found:
            path = (key, index, f"{polarity}_prompts")
            with problems.collecting():
                found[polarity] = texts_of(getattr(keys, path[2]), _place(document, path))
        if not keys.positive_prompts:
            what = f"{key}.{index} has no positive_prompts, by which tokens for it could be told"
            hint = "write some, or choose a gate_mode that looks at no prompt: random, uniform_random"
            problems.add(ConfigError("E105", what, place=_place(document, (key, index)), hint=hint))
        yield _Expert((key, index), keys, **found)


def _place(document: Document, path: tuple[str | int, ...]) -> Place | str:
    return document.place(path) or ".".join(map(str, path))


def _check_share(document: Document, keys: GateKeys, experts: int) -> None:
    if keys.top1_share is not None and keys.top1_share * experts <= 1 < experts:
        what = f"top1_share {keys.top1_share:g}: the first of {experts} choices gets more than 1/{experts}"
        hint = "write a share between that and 1, such as 0.9"
        raise ConfigError("E105", what, place=_place(document, ("top1_share",)), hint=hint)


def _check_tokenizer(planner: Planner, base: Checkpoint) -> None:
    table = planner.vocabulary(base)
    if table is None or not table.ids:
        what = "it has no tokenizer to cut the prompts with"
        hint = "put its tokenizer files there, or choose a gate_mode that looks at no prompt: random, uniform_random"
        raise InputError("E240", what, place=base.name, hint=hint)


def _check_seen(base: Checkpoint, run: Runnable) -> None:
    if None in run.layout.mlps:
        layer = run.layout.layers[run.layout.mlps.index(None)]
        what = f"no feed-forward block is known in '{layer}', before which a router would stand"
        raise InputError(
            "E224", what, place=base.name, hint="choose the gate_mode hidden, without top1_share"
        )


def _cuts(
    document: Document,
    cutter: Cutter,
    run: Runnable | None,
    experts: Sequence[_Expert],
    problems: Collector,
) -> Iterator[Cut]:
    """All prompts as ids of tokens."""
    for number, expert in enumerate(experts):
        for negative, texts in enumerate((expert.positive, expert.negative)):
            key = ("positive_prompts", "negative_prompts")[negative]
            for index, text in enumerate(texts):
                ids = cutter.ids(text)
                cut = Cut(number, bool(negative), tuple(ids))
                place = _place(document, (*expert.path, key, index))
                if fault := _fault(cut, cutter.begins, run):
                    what, hint = fault
                    problems.add(ConfigError("E105", f"prompt {index + 1} {what}", place=place, hint=hint))
                else:
                    yield cut


def _fault(cut: Cut, begins: int | None, run: Runnable | None) -> tuple[str, str] | None:
    """What is wrong with the tokens of a prompt, and what to do."""
    if not cut.ids or cut.ids == (begins,):
        return "has no token: the tokenizer makes nothing of it", "write other words"
    if run is None:
        return None
    longest = run.layout.longest
    if longest is not None and len(cut.ids) > longest:
        return (
            f"has {counted(len(cut.ids), 'token')}; the model takes {longest} at once",
            "make it shorter, or two of it",
        )
    if max(cut.ids) >= run.layout.vocabulary:
        what = f"has the token {max(cut.ids)}; the model has {run.layout.vocabulary} rows of embeddings"
        return what, "the tokenizer belongs to another model"
    return None


def _warnings(experts: Sequence[_Expert], keys: GateKeys) -> Iterator[str]:
    """What the user should know of prompts that are the same."""
    known: dict[object, str] = {}
    for one in experts:
        said = (*sorted(one.positive), None, *sorted(one.negative))
        if said in known:
            yield f"{known[said]} and {one.name} have the same prompts, so no router can tell them apart"
        known.setdefault(said, one.name)
        if both := [text for text in one.positive if text in one.negative]:
            yield f"{one.name}: {some(both, 2)} is among its positive prompts and, against these, its negative ones"
    if keys.gate_center and keys.gate_mode == "router_input":
        yield "gate_center has no effect on router_input, which compares experts as it is"
