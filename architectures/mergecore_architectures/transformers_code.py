"""What the code of a model takes for keys of a config that its class does not declare.

Some keys are read as `getattr(config, "is_causal", True)`: no config has to say them, and no class lists them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from mergecore.types import Json

_READ = re.compile(
    r"getattr\(\s*(?:self\.)?(?:text_)?config,\s*\"(\w+)\",\s*(None|True|False|\"\w*\"|-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*\)"
)
_MASKS = re.compile(r"\bcreate_(sliding_window_|chunked_)?causal_mask\(")
"""These read `is_causal`; models that make other masks do not."""


def with_undeclared(config: Mapping[str, Json]) -> dict[str, Json]:
    """A config, and those nested in it, with what the code of its model takes for keys that are not there."""
    found = {
        key: with_undeclared(value) if isinstance(value, dict) else value for key, value in config.items()
    }
    return {**_read_by_code(config), **found}


def _read_by_code(config: Mapping[str, Json]) -> dict[str, Json]:
    code = _code(config.get("model_type"))
    read: dict[str, set[Json]] = {}
    for key, value in _READ.findall(code):
        read.setdefault(key, set()).add(ast.literal_eval(value))
    only_encodes = config.get("is_decoder") is False and not config.get("is_encoder_decoder")
    if _MASKS.search(code) and not only_encodes:
        read["is_causal"] = {True}
    return {key: values.pop() for key, values in read.items() if len(values) == 1}


def _code(model_type: Json) -> str:
    """The source of a model; nothing where there is none."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, model_type_to_module_name

    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return ""
    module = model_type_to_module_name(model_type)
    path = Path(transformers.__file__).parent / "models" / module / f"modeling_{module}.py"
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
