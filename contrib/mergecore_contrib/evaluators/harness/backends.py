"""The model as lm-eval wants it: in its class for models of transformers, or the folder of it; read `backend`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mergecore import ConfigError
from mergecore.errors import did_you_mean
from mergecore.types import EvaluatedModel
from mergecore_contrib.evaluators.extras import imported
from mergecore_contrib.evaluators.harness.quiet import quiet

if TYPE_CHECKING:
    from mergecore_contrib.evaluators.lm_eval import LmEvalParams

EXTRA = "lm-eval"
OF_HF = (
    "add_bos_token",
    "backend",
    "chat_template_args",
    "enable_thinking",
    "logits_cache",
    "max_length",
    "mixed_precision_dtype",
    "prefix_token_id",
    "softmax_dtype",
    "think_end_token",
    "truncation",
)
"""What lm-eval's class for transformers heeds where the model is in memory; it would ignore the rest."""
GIVEN = ("batch_size", "device", "pretrained", "tokenizer")
"""What mergecore gives to each backend."""


def check(params: LmEvalParams) -> None:
    """Refuse a backend that lm-eval does not have, and arguments that would have no effect.

    Raises:
        PluginError: E601 when the backend cannot be imported.
        ConfigError: E105.
    """
    arguments = _arguments(params)
    if taken := sorted(arguments.keys() & set(GIVEN)):
        what = f"model_args: '{taken[0]}' is given by mergecore"
        raise ConfigError("E105", what, hint="leave it out; batch_size is a parameter, the device an option")
    if params.backend == "hf":
        for name in arguments.keys() - set(OF_HF):
            what = f"model_args: '{name}' has no effect on a model in memory{did_you_mean(name, OF_HF)}"
            raise ConfigError("E105", what, hint=f"these have one: {', '.join(OF_HF)}")
    else:
        _class(params.backend)


def backend(model: EvaluatedModel, params: LmEvalParams) -> Any:
    """What lm-eval asks."""
    arguments = _arguments(params)
    if params.backend == "hf":
        huggingface = imported("lm_eval.models.huggingface", EXTRA)
        with quiet():
            # lm-eval gives the tokenizer a token for padding where it has none
            tokenizer = copy.deepcopy(model.tokenizer())
            return huggingface.HFLM(
                pretrained=model.module(), tokenizer=tokenizer, batch_size=params.batch_size, **arguments
            )
    named = {"pretrained": str(model.folder()), **arguments}
    with quiet():
        return _class(params.backend).create_from_arg_obj(named, {"batch_size": params.batch_size})


def _arguments(params: LmEvalParams) -> Mapping[str, Any]:
    found: Mapping[str, Any] = imported("lm_eval.utils", EXTRA).simple_parse_args_string(params.model_args)
    return found


def _class(name: str) -> Any:
    registry = imported("lm_eval.api.registry", EXTRA)
    imported("lm_eval.models", EXTRA)
    try:
        return registry.get_model(name)
    except ValueError as error:
        known = sorted(registry.MODEL_REGISTRY.keys())
        what = f"lm-eval has no backend '{name}'{did_you_mean(name, known)}"
        raise ConfigError("E105", what, hint=f"these there are: {', '.join(known)}") from error
    except ImportError as error:
        what = f"the backend '{name}' of lm-eval cannot be imported: {error}"
        raise ConfigError("E105", what, hint="install what it needs, or leave out backend") from error
