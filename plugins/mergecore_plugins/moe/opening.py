"""The models of a mixture, opened, and whether their feed-forward blocks fit together; read `opened`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergecore.errors import Collector, InputError, counted, some
from mergecore.files import DTYPES, MERGEABLE
from mergecore.types import Checkpoint, ModelReference, Planner
from mergecore_plugins.moe.dense import PARTS, Dense, dense_of
from mergecore_plugins.moe.document import Expert, MoeDocument
from mergecore_plugins.moe.steps import Source


@dataclass(frozen=True)
class Opened:
    """All models: the base first, then those of experts, each once."""

    models: tuple[Checkpoint, ...]
    dense: tuple[Dense, ...]
    named: Mapping[ModelReference, int]
    """Where the model of a reference is among them."""

    def source(self, expert: Expert) -> Source:
        """An expert as it is built."""
        model = self.named[expert.source_model]
        factor = 1.0 if expert.residual_scale is None else expert.residual_scale
        return Source(self.dense[model], model, expert.noise_scale or 0.0, factor)

    def unused(self, asked: MoeDocument) -> dict[int, str]:
        """By model, why tensors of it are not in the mixture."""
        reason = "only its feed-forward blocks are used"
        return {0: "it gives all but the feed-forward blocks"} | dict.fromkeys(
            range(1, len(self.models)), reason
        )


def opened(asked: MoeDocument, planner: Planner, problems: Collector) -> Opened:
    """The models, opened and described; what is wrong with any of them goes to `problems`."""
    named: dict[ModelReference, tuple[str | int, ...]] = {asked.base_model: ("base_model",)}
    for key, experts in (("experts", asked.experts), ("shared_experts", asked.shared_experts or ())):
        for index, one in enumerate(experts):
            named.setdefault(one.source_model, (key, index, "source_model"))
    found: dict[ModelReference, Dense] = {}
    for reference, path in named.items():
        with problems.collecting():
            dense = dense_of(planner.open(reference, path), planner)
            _check_dense(dense)
            _check_dtypes(dense)
            if base := found.get(asked.base_model):
                _check_fit(base, dense)
            elif dense.faults:
                what = "; ".join(dense.faults)
                raise InputError("E222", what, place=dense.model.name, hint=_PLAIN)
            found[reference] = dense
    places = {reference: index for index, reference in enumerate(found)}
    return Opened(tuple(one.model for one in found.values()), tuple(found.values()), places)


_PLAIN = (
    "a mixture is made of models whose layers are all alike, with embeddings, a norm and a head around them"
)


def _check_dense(dense: Dense) -> None:
    """Raise E222 for a model that is a mixture already."""
    if any("experts." in name or name.startswith("block_sparse_moe.") for name in dense.layer):
        hint = "name dense models; `mergecore moe keep` chooses among the experts of a mixture"
        raise InputError("E222", "it is a mixture of experts already", place=dense.model.name, hint=hint)


def _check_dtypes(dense: Dense) -> None:
    """Raise E233 for feed-forward blocks that are quantised."""
    for layer in dense.layers:
        for name in PARTS.values():
            tensor = layer.get(name)
            if tensor and (tensor.dtype not in MERGEABLE or not DTYPES[tensor.dtype].floating):
                what = f"{dense.model.name}: tensor '{tensor.name}' is {tensor.dtype}, which no expert can be made of"
                raise InputError("E233", what, tensor=tensor.name, hint="use the model before quantisation")


def _check_fit(base: Dense, expert: Dense) -> None:
    """Raise E230 or E222 for an expert whose feed-forward blocks do not fit into the base."""
    name = expert.model.name
    if len(expert.layers) != len(base.layers):
        what = (
            f"{name} has {counted(len(expert.layers), 'layer')}, and {base.model.name} has {len(base.layers)}"
        )
        raise InputError("E230", what, hint="experts have as many layers as the base")
    gated = set(PARTS.values())
    if lacking := sorted((gated & base.layer) - expert.layer):
        raise InputError(
            "E222",
            f"{name} has no {some(lacking, 3)} in its layers",
            hint="experts need a gated feed-forward block",
        )
    for index, (mine, theirs) in enumerate(zip(base.layers, expert.layers, strict=True)):
        for part in sorted(gated & base.layer):
            if part not in theirs or mine[part].shape != theirs[part].shape:
                found = list(theirs[part].shape) if part in theirs else "not there"
                wanted = list(mine[part].shape)
                what = f"{name}: '{part}' of layer {index} is {found}, and {wanted} in {base.model.name}"
                raise InputError("E230", what, tensor=part, hint="experts are as wide as the base")
    if extra := sorted(
        one for one in expert.layer if one.startswith("mlp.") and one not in gated | base.layer
    ):
        what = f"{name} has {some(extra, 3)} in its feed-forward blocks, and {base.model.name} has not"
        raise InputError("E222", what, hint="experts have the same kind of feed-forward block as the base")
    acts = [one.config.get("hidden_act") for one in (base, expert)]
    if None not in acts and acts[0] != acts[1]:
        what = f"{name} has the activation {acts[1]}, and {base.model.name} has {acts[0]}"
        raise InputError("E222", what, hint="experts have the same kind of feed-forward block as the base")
