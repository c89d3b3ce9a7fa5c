"""Models of transformers without their weights: the only place that knows the inside of that library.

`build` makes one from a config.json; a `MetaModel` answers which tensors it has, how names on disk become its
own, and what its modules are.  What is private there may go with any release: then `CannotBuildError` says so, and
whoever asked goes on without.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mergecore.files import parse_json
from mergecore.models import nested_configs
from mergecore.types import Json

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


class CannotBuildError(Exception):
    """Transformers makes no model of a config; why not."""


@dataclass(frozen=True)
class Converted:
    """Where a tensor on disk goes: its name in the model, or that of the first tensor it is converted into."""

    name: str
    pattern: str | None = None
    """Which of the patterns of `converter` it matches; None for a tensor that is only renamed."""
    converter: Any = None


@dataclass(frozen=True)
class MetaModel:
    """A model of transformers on the meta device, and the config it is made from."""

    model: PreTrainedModel = field(repr=False)
    config: Mapping[str, Json]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that it loads or saves, by its name in the model."""
        ignored = [re.compile(one) for one in getattr(self.model, "_keys_to_ignore_on_save", None) or ()]
        state = self.model.state_dict()
        return {
            name: tuple(tensor.shape)
            for name, tensor in state.items()
            if not any(pattern.search(name) for pattern in ignored)
        }

    @cached_property
    def ties(self) -> dict[str, str]:
        """Tensors that are others, by their names in the model, and the tensors they are."""
        return dict(self.model.all_tied_weights_keys)

    def renamed(self, names: Iterable[str]) -> dict[str, Converted]:
        """Where each of these tensors on disk goes; those with no place in the model are left out."""
        return _renamed(self.model, names)

    def targets(self, place: Converted) -> list[str]:
        """The names of everything in the model that a tensor at this place is a part of."""
        if place.pattern is None:
            return [place.name]
        first, *others = place.converter.target_patterns
        return [place.name, *(place.name.replace(first, other) for other in others)]

    def unexpected_is_fine(self, name: str) -> bool:
        """Whether the class knows about tensors of that name which it does not load."""
        patterns = getattr(self.model, "_keys_to_ignore_on_load_unexpected", None) or ()
        return any(re.search(pattern, name) for pattern in patterns)

    def is_kept_in_f32(self, name: str, dtype: str) -> bool:
        """Whether the loader holds a tensor of the model in float32 when the rest is in that 16-bit format."""
        words = list(getattr(self.model, "_keep_in_fp32_modules_strict", None) or ())
        if dtype == "F16":
            words += getattr(self.model, "_keep_in_fp32_modules", None) or ()
        return any(re.search(word.replace("*", ".*"), name) for word in words)

    @cached_property
    def stacks(self) -> dict[str, int]:
        """The lists of modules that stand in no other list, by name; how long they are."""
        return dict(_stacks(self.model))

    @cached_property
    def decoder(self) -> str | None:
        """The name of the module that makes text; "" for the model itself."""
        return self._name_of(self._asked("get_decoder"))

    @cached_property
    def embeddings(self) -> str | None:
        """The name of the module that turns tokens into vectors."""
        return self._name_of(self._asked("get_input_embeddings"))

    @cached_property
    def head(self) -> str | None:
        """The name of the module that turns vectors into a number per token."""
        return self._name_of(self._asked("get_output_embeddings"))

    def layer_values(self, path: Sequence[str]) -> dict[str, list[Json]]:
        """The lists in the section of its config at `path`, as it understands them: given or derived."""
        section: Any = self.model.config
        for key in path:
            section = getattr(section, key, None)
        values = section.to_dict() if section is not None else {}
        return {key: list(value) for key, value in values.items() if isinstance(value, list | tuple)}

    def sections(self) -> list[tuple[tuple[str, ...], Mapping[str, Json]]]:
        """The config with all its defaults, and the configs nested in it."""
        return nested_configs(self.model.config.to_dict())

    def _asked(self, question: str) -> nn.Module | None:
        """The module a method of the model returns, None where the class has no answer."""
        try:
            module: nn.Module | None = getattr(self.model, question)()
        except Exception:  # noqa: BLE001  classes raise whatever they like for what they do not have
            return None
        return module

    def _name_of(self, module: nn.Module | None) -> str | None:
        return next((name for name, one in self.model.named_modules() if one is module), None)


def may_keep_f32(config: Mapping[str, Json]) -> bool:
    """Whether a class of the model wants some tensors in float32: what its source says, since importing it is slow."""
    found = importlib.util.find_spec("transformers")
    roots = found.submodule_search_locations if found else None
    kinds = [section.get("model_type") for _, section in nested_configs(config)]
    for kind in kinds if roots else ():
        folder = Path((roots or [""])[0], "models", re.sub(r"\W", "_", str(kind)))
        for file in folder.glob("modeling_*.py"):
            if "_keep_in_fp32_modules" in file.read_text(encoding="utf-8", errors="replace"):
                return True
    return False


def build(config: Mapping[str, Json]) -> MetaModel:
    """The model that a config.json describes, without weights; no code of the model is run, nothing downloaded.

    Raises:
        CannotBuildError: the installed transformers knows no such model, or its class objects.
    """
    _check_counts(config)
    with silenced():
        try:
            model = _build(config)
        except CannotBuildError:
            raise
        except Exception as error:
            told = " ".join(str(error).split())[:200]
            raise CannotBuildError(f"transformers does not make a model of its config: {told}") from error
    return MetaModel(model, config)


def complete_config(config: Mapping[str, Json]) -> dict[str, Json] | None:
    """A config with the values that its class takes for what is not said; None when there is no such class."""
    try:
        _check_counts(config)
        with silenced():
            whole = _settings(config).to_dict()
        made = parse_json(json.dumps(whole, default=str).encode(), code="E220", place="config", infinite=True)
    except CannotBuildError:
        return None
    except Exception:  # noqa: BLE001 - whatever a class of the library objects to, it completes nothing
        return None
    return made if isinstance(made, dict) else None


def _settings(config: Mapping[str, Json]) -> PretrainedConfig:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CannotBuildError(f"transformers {transformers.__version__} knows no model type '{model_type}'")
    settings: PretrainedConfig = CONFIG_MAPPING[model_type].from_dict(
        cast("dict[str, Any]", _plain(dict(config)))
    )
    return settings


def _build(config: Mapping[str, Json]) -> PreTrainedModel:
    import torch
    import transformers

    settings = _settings(config)
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    cls = getattr(transformers, name, None) if isinstance(name, str) else None
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):
        raise CannotBuildError(f"transformers {transformers.__version__} has no class '{name}'")
    wanted = cls.config_class
    if wanted is not None and not isinstance(settings, wanted):
        parts = [part for part in vars(settings).values() if isinstance(part, wanted)]
        settings = parts[0] if parts else settings
    with torch.device("meta"):
        model: PreTrainedModel = cls._from_config(settings, attn_implementation="eager")
    return model


def _plain(value: Json) -> Json:
    """A value of a config with infinities as numbers, which transformers writes as mappings, and without secrets.

    Private keys and implementations are left out: some releases load and run what those name.
    """
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(str(value["__float__"]))
        kept = {key: one for key, one in value.items() if not key.startswith("_") and key not in _UNWANTED}
        return {key: _plain(one) for key, one in kept.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


_UNWANTED = ("auto_map", "quantization_config", "attn_implementation", "experts_implementation")


def _check_counts(config: Mapping[str, Json]) -> None:
    """Refuse what would keep us busy for hours: a config is not to be trusted."""
    for _, section in nested_configs(config):
        for key, value in section.items():
            if isinstance(value, int) and value > _MOST and _COUNTS.search(key):
                raise CannotBuildError(f"{key} {value} is not plausible")


_MOST = 10_000
_COUNTS = re.compile(r"(layers?|blocks|depth|experts|stages|groups|heads|modules|codebooks)$")


@contextmanager
def silenced() -> Iterator[None]:
    """Let transformers say nothing: its words about configs and weights are not for our users."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _stacks(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The outermost lists of modules, in order."""
    from torch import nn

    inside: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in inside):
            continue
        if isinstance(module, nn.ModuleList) and len(module):
            inside.append(name)
            if next(module.parameters(), None) is not None:
                yield name, len(module)


def _renamed(model: PreTrainedModel, names: Iterable[str]) -> dict[str, Converted]:
    """What the loader of transformers does with names, in the order in which it does it."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )
    except ImportError as error:
        raise CannotBuildError(f"this release of transformers has no conversion of names: {error}") from error

    known = model.state_dict()
    mapping = get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    base = model.base_model_prefix
    found = {}
    for name in sorted(names, key=dot_natural_key):
        renamed, pattern = rename_source_key(name, renamings, converters, base, known)
        if renamed not in known and name in known:
            renamed, pattern = rename_source_key(name, [], [], base, known)
        if renamed in known:
            found[name] = Converted(renamed, pattern, by_pattern[pattern] if pattern else None)
    return found
