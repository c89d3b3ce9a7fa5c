"""A decoder of transformers on the meta device whose weights come and go; read `Decoder`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mergecore.errors import InputError
from mergecore.files import parse_json
from mergecore_architectures import build
from mergecore_plugins.activations.layout import RunLayout

if TYPE_CHECKING:
    from mergecore.types import Json, Matrix


class Decoder:
    """The decoder that a `RunLayout` describes; its layers are empty until they are brought."""

    def __init__(
        self, layout: RunLayout, weights: Mapping[str, Matrix], device: torch.device, dtype: torch.dtype
    ) -> None:
        """`weights`: what `layout.names` names, to be read."""
        made = build(cast("dict[str, Json]", parse_json(layout.config, code="E220", infinite=True)))
        self.module = made.model.get_submodule(layout.decoder)
        self.module.eval()
        self._layout = layout
        self._weights = weights
        self._device = device
        self._dtype = dtype
        self._prefix = f"{layout.decoder}." if layout.decoder else ""
        _fill_buffers(made.model, self.module, layout, device)
        embeddings = made.model.get_input_embeddings()
        apart = layout.embeddings if _looks_up(embeddings) else None
        self._rows = weights[apart] if apart else None
        for name in layout.names:
            if layout.layer_of(name) is None and name != apart:
                self._set(name, self._read(name))
        if self._rows is not None:
            _Lookup(embeddings, self._rows, device, dtype)

    def submodule(self, name: str) -> nn.Module:
        """A module by its name in the model."""
        return self.module.get_submodule(name.removeprefix(self._prefix))

    def bring(self, layer: str) -> None:
        """Read the weights of a layer."""
        for name in self._layout.inside(layer):
            self._set(name, self._read(name))

    def put_away(self, layer: str) -> None:
        """Forget the weights of a layer."""
        for name in self._layout.inside(layer):
            self._set(name, None)

    def __call__(self, ids: Tensor, mask: Tensor) -> None:
        """Run the decoder over token ids (rows, length); `mask` is 0 where there is none."""
        self.module(input_ids=ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False)

    def raise_faults(self) -> None:
        """Raise E234 for numbers of embeddings that are not finite."""
        if self._rows is not None:
            self._rows.raise_faults()

    def _read(self, name: str) -> Tensor:
        matrix = self._weights[name]
        rows = matrix.shape[0] if matrix.shape else 1
        floating = matrix.dtype.is_floating_point
        found = matrix.read(0, rows, torch.float32 if floating else matrix.dtype).view(matrix.shape)
        matrix.raise_faults()
        return found.to(self._device, self._dtype if floating else matrix.dtype)

    def _set(self, name: str, tensor: Tensor | None) -> None:
        """Give a weight its numbers, or take them away."""
        owner, _, leaf = name.removeprefix(self._prefix).rpartition(".")
        module = self.module.get_submodule(owner)
        places: dict[str, Any] = module._parameters if leaf in module._parameters else module._buffers
        before = places[leaf]
        if tensor is not None and tensor.shape != before.shape:
            what = f"tensor '{name}' has the shape {list(tensor.shape)}; its class takes {list(before.shape)}"
            raise InputError("E221", what, place=self._layout.model, tensor=name)
        numbers = torch.empty(before.shape, dtype=before.dtype, device="meta") if tensor is None else tensor
        is_parameter = places is module._parameters
        places[leaf] = nn.Parameter(numbers, requires_grad=False) if is_parameter else numbers


def _looks_up(module: nn.Module) -> bool:
    """Whether a module does nothing with its rows but look them up by ids."""
    return isinstance(module, nn.Embedding) and module.max_norm is None


class _Lookup:
    """Lets embeddings read only the rows that a batch needs, and forget them."""

    def __init__(self, module: nn.Module, rows: Matrix, device: torch.device, dtype: torch.dtype) -> None:
        empty = torch.empty(
            (0, *rows.shape[1:]), dtype=dtype, device=device
        )  # some ask where the weight lies
        self._hollow = module._parameters["weight"] = nn.Parameter(empty, requires_grad=False)
        self._rows = rows
        self._device = device
        self._dtype = dtype
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after)

    def _before(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        ids, places = torch.unique(given[0], return_inverse=True)
        found = torch.cat([self._rows.read(first, stop) for first, stop in _runs(ids.tolist())])
        rows = found.to(self._device, self._dtype)
        module._parameters["weight"] = nn.Parameter(rows, requires_grad=False)
        return (places, *given[1:])

    def _after(self, module: nn.Module, given: object, made: object) -> None:
        module._parameters["weight"] = self._hollow


def _runs(ids: list[int]) -> list[tuple[int, int]]:
    """Ascending ids as stretches without holes."""
    runs: list[tuple[int, int]] = []
    for one in ids:
        if runs and runs[-1][1] == one:
            runs[-1] = (runs[-1][0], one + 1)
        else:
            runs.append((one, one + 1))
    return runs


def _fill_buffers(model: nn.Module, decoder: nn.Module, layout: RunLayout, device: torch.device) -> None:
    """Compute the buffers that no checkpoint holds, such as the frequencies of rotary positions.

    Raises:
        InputError: E224 when the class of the model does not.
    """
    for path, module in decoder.named_modules():
        stored = [name for name in module._buffers if name not in module._non_persistent_buffers_set]
        hollow = [name for name, one in module._buffers.items() if one is not None and name not in stored]
        for name in hollow:
            buffer = module._buffers[name]
            assert buffer is not None
            module._buffers[name] = torch.full_like(buffer, _mark(buffer.dtype), device=device)
        if hollow:
            _initialised(model, module)
        for name in hollow:
            made = module._buffers[name]
            if made is not None and made.numel() and bool(_is_marked(made).all()):
                what = f"the model cannot be run: its class does not compute the buffer '{path}.{name}'"
                raise InputError("E224", what, place=layout.model)


def _initialised(model: Any, module: nn.Module) -> None:
    """Have transformers compute what a module holds; parameters stay empty."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with torch.no_grad():
            model._init_weights(module)
    finally:
        logger.setLevel(before)


def _mark(dtype: torch.dtype) -> float:
    """What stands in a buffer that nobody has computed."""
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return 0 if dtype == torch.bool else torch.iinfo(dtype).min


def _is_marked(buffer: Tensor) -> Tensor:
    if buffer.dtype.is_floating_point or buffer.dtype.is_complex:
        return buffer.isnan()
    return (
        torch.zeros(1, dtype=torch.bool)
        if buffer.dtype == torch.bool
        else buffer == torch.iinfo(buffer.dtype).min
    )
