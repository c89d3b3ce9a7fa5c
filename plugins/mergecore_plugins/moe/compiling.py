"""Compiles a document to a plan, from headers alone; read `plan_moe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mergecore import Document
from mergecore.errors import Collector
from mergecore.types import (
    Json,
    Mixture,
    MoeFamily,
    OutputTensor,
    Plan,
    Planner,
    Step,
    TensorInfo,
    TensorInput,
)
from mergecore_plugins.moe.checking import faults, warnings
from mergecore_plugins.moe.choosing import choose
from mergecore_plugins.moe.config_json import mixture_config
from mergecore_plugins.moe.dense import PARTS, Dense
from mergecore_plugins.moe.document import MoeDocument
from mergecore_plugins.moe.gating import RANDOM, Router, gate_step
from mergecore_plugins.moe.opening import opened
from mergecore_plugins.moe.parts import Random
from mergecore_plugins.moe.proving import Proof
from mergecore_plugins.moe.steps import Building


def plan_moe(document: Document, planner: Planner) -> Plan:
    """The plan of a mixture of experts.

    Raises:
        MergecoreError: what is wrong with the settings or the models; several as `Problems`.
    """
    asked = planner.read_document(MoeDocument)
    problems = Collector()
    for error in faults(asked, document):
        problems.add(error)
    models = opened(asked, planner, problems)
    problems.raise_any()
    base = models.dense[0]
    mixture = _mixture(asked, base)
    families = _families(asked, planner)
    proof = Proof(planner, base, families, mixture.shared_experts)
    differs = proof.differs if asked.check else _alike
    family = choose(mixture, families, asked.architecture, base.model.name, differs)
    names = family.fused if asked.layout == "fused" and family.fused else family.names
    experts = [models.source(one) for one in asked.experts]
    shared = [models.source(one) for one in asked.shared_experts or ()]
    building = Building(base, family, names, experts, shared, asked.dtype, planner.seed)
    routers, told = _routers(building, asked, document, planner)
    steps = building.steps(routers)
    files = planner.side_files(
        models.models,
        steps,
        made_by=f"moe ({family.name})",
        config=mixture_config(family, mixture),
        title="Mixture of experts",
        summary=_summary(family, mixture, len(models.models)),
        card={"tags": ["mergecore", "merge", "moe"]},
    )
    plan = planner.plan(
        models.models,
        steps,
        files,
        unused=models.unused(asked),
        warnings=[
            *warnings(asked, models, mixture),
            *([family.note] if family.note else []),
            *family.notes(mixture),
            *(proof.doubts if asked.check else (f"{proof.unchecked(family)}: 'check' is false",)),
            *told,
        ],
        doing=f"building a mixture of {mixture.experts} experts",
    )
    return replace(plan, decided=_decided(family, mixture, asked))


def _decided(family: MoeFamily, mixture: Mixture, asked: MoeDocument) -> dict[str, Json]:
    shared: dict[str, Json] = {"shared_experts": mixture.shared_experts} if mixture.shared_experts else {}
    return {
        "family": family.name,
        "class": family.architecture,
        "experts": mixture.experts,
        **shared,
        "experts_per_token": mixture.experts_per_token,
        "gate_mode": asked.gate_mode,
        "layout": asked.layout if family.fused else "hub",
    }


def _mixture(asked: MoeDocument, base: Dense) -> Mixture:
    shared = asked.shared_experts or ()
    return Mixture(
        config=base.config,
        layer=base.layer,
        experts=len(asked.experts),
        experts_per_token=asked.experts_per_token,
        shared_experts=len(shared),
        shared_prompts=any(one.positive_prompts or one.negative_prompts for one in shared),
        drawn=asked.gate_mode in RANDOM,
    )


def _summary(family: MoeFamily, mixture: Mixture, models: int) -> str:
    """How the mixture was made, with a place for the name of each model, of which the first is the base."""
    listed = "\n".join(f"* {{{index}}}" for index in range(1, models))
    experts = f"{mixture.experts} experts" + (
        f" and {mixture.shared_experts} shared" if mixture.shared_experts else ""
    )
    made = f"mergecore made this mixture of {experts}, a model of the family `{family.name}`, of {{0}}"
    return f"{made}, which gives all but the experts, and\n\n{listed}" if listed else f"{made} alone."


def _families(asked: MoeDocument, planner: Planner) -> list[MoeFamily]:
    """All families; of those with one name, the one whose distribution is named."""
    families = planner.offered(MoeFamily)
    name, _, distribution = (asked.architecture or "").partition("@")
    if not distribution:
        return families
    named = planner.named(MoeFamily, f"{name}@{distribution}", ("architecture",))
    return [*(one for one in families if one.name != name), named]


def _alike(family: MoeFamily) -> None:
    return None


# ---- routers -----------------------------------------------------------------------------------------------


def _routers(
    building: Building, asked: MoeDocument, document: Document, planner: Planner
) -> tuple[Mapping[str, Step], Sequence[str]]:
    """The steps that make the routers, by the names of these, and what the user should know of them."""
    if asked.gate_mode in RANDOM:
        return _drawn(building, asked), ()
    gates = [*_gates(building)]
    shared = asked.shared_experts or () if any(one.first for one in gates) else ()
    made = gate_step(document, planner, asked, building.base.model, gates, asked.experts, shared)
    return {one.output.name: made.step for one in gates}, made.warnings


def _gates(building: Building) -> Iterator[Router]:
    """Each router with the rows that it has: those of the experts, then that of the gate of a shared one."""
    for layer, tensors in enumerate(building.base.layers):
        first = 0
        for name, rows in building.matrices:
            shape = (rows, tensors[PARTS["gate"]].shape[1])
            made = OutputTensor(building.name(layer, name), building.router_dtype(layer), shape)
            yield Router(made, layer, first, first + rows)
            first += rows


def _drawn(building: Building, asked: MoeDocument) -> Mapping[str, Step]:
    """Routers of random numbers."""
    steps: dict[str, Step] = {}
    for layer in range(len(building.base.layers)):
        for name, rows in building.matrices:
            whole = building.name(layer, name)
            key = building.name(layer, "router" if name == building.names.router else "shared_gate")
            columns = building.base.layers[layer][PARTS["gate"]].shape[1]
            dtype = building.router_dtype(layer)
            data = Random(dtype, (rows, columns), asked.gate_mode, key, building.seed)  # type: ignore[arg-type]
            made = OutputTensor(whole, dtype, (rows, columns))
            steps[whole] = Step((made,), (TensorInput(0, TensorInfo(whole, data)),), role="router")
    return steps
