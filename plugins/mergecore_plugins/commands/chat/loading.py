"""A model that answers, made of a config or of the name of a model without writing it; read `loaded`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergecore import Config, InputError, Plan, PlanOptions, Registry, RunOptions, plan, run

SUFFIXES = (".yml", ".yaml", ".json")
"""How files of configs end."""


@dataclass(frozen=True)
class Answering:
    """A model of transformers that makes text, with its tokenizer."""

    name: str
    module: Any
    tokenizer: Any


def loaded(text: str, registry: Registry, *, offline: bool = False, device: str = "cpu") -> Answering:
    """The model that a config makes, or that has this name, in memory and on a device.

    Raises:
        MergecoreError: what is wrong with config or model; E224 when transformers cannot make text with it, E240
            when it has no tokenizer.
    """
    from mergecore.compute import device as device_of

    chosen, file = device_of(device), Path(text)
    is_config = text.endswith(SUFFIXES) and file.is_file()
    config: Path | Config = (
        file if is_config else {"merge_method": "passthrough", "models": [{"model": text}]}
    )
    made = plan(config, registry=registry, options=PlanOptions(offline=offline))
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder)
        for name, content in made.side_files.items():
            (small / name).parent.mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else content.read_bytes()
            (small / name).write_bytes(data)
        kind, settings = _class(text, small)
        tokenizer = _tokenizer(text, small)
        module = _module(made, kind, settings, registry)
    return Answering(text, module.to(chosen).eval(), tokenizer)


def _class(text: str, folder: Path) -> tuple[Any, Any]:
    """The class of a model that makes text, and its config."""
    import transformers

    try:
        settings = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError("E224", f"{text}: transformers cannot read its config.json: {reason}") from error
    named = [getattr(transformers, name, None) for name in getattr(settings, "architectures", None) or ()]
    kind = next((one for one in named if one is not None and one.can_generate()), None)
    if kind is None:
        what = f"{text}: transformers has no class for it that makes text: {settings.architectures}"
        raise InputError("E224", what, hint="chat with a language model")
    return kind, settings


def _tokenizer(text: str, folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        hint = "add the tokenizer files to the model"
        raise InputError(
            "E240", f"{text}: it has no tokenizer that transformers can read", hint=hint
        ) from error


def _module(made: Plan, kind: Any, settings: Any, registry: Registry) -> Any:
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tensors = run(made, registry=registry, options=RunOptions())
    with torch.no_grad():
        return kind.from_pretrained(None, config=settings, state_dict=tensors, dtype="auto")
