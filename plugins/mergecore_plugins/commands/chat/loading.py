"""A model that answers, made of a config or of the name of a model without writing it; read `loaded`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergecore import Config, InputError, Plan, PlanOptions, Registry, RunOptions, plan, run
from mergecore.errors import some

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
        module = _module(text, made, kind, settings, registry)
        _take_generation_config(module, small)
    return Answering(text, module.to(chosen).eval(), tokenizer)


def _class(text: str, folder: Path) -> tuple[Any, Any]:
    """The class of a model that makes text, and its config."""
    import transformers

    try:
        settings = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError("E224", f"{text}: transformers cannot read its config.json: {reason}") from error
    written = getattr(settings, "architectures", None)
    names = [one for one in written if isinstance(one, str)] if isinstance(written, list) else []
    known = [getattr(transformers, name, None) for name in names]
    kind = next((one for one in known if _makes_text(one)), None)
    if kind is None:
        what = f"{text}: transformers has no class for it that makes text: {written}"
        raise InputError("E224", what, hint="chat with a language model")
    return kind, settings


def _makes_text(named: Any) -> bool:
    """Whether what a config names is a class of models that make text."""
    import transformers

    is_model = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
    return is_model and bool(named.can_generate())


def _tokenizer(text: str, folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        hint = "add the tokenizer files to the model"
        raise InputError(
            "E240", f"{text}: it has no tokenizer that transformers can read", hint=hint
        ) from error


def _module(text: str, made: Plan, kind: Any, settings: Any, registry: Registry) -> Any:
    """The model with the tensors of the plan; none of its weights may be left to chance."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tensors = run(made, registry=registry, options=RunOptions())
    with torch.no_grad():
        module, told = kind.from_pretrained(
            None, config=settings, state_dict=tensors, dtype="auto", output_loading_info=True
        )
    lacking = [*told["missing_keys"], *(str(one) for one in told["mismatched_keys"])]
    if lacking:
        what = f"{text}: {len(lacking)} weights that its class needs are missing, or have another shape"
        raise InputError("E221", f"{what}: {some(sorted(lacking), 3)}", hint="complete the model")
    return module


def _take_generation_config(module: Any, folder: Path) -> None:
    """How the model wants to be asked, such as the tokens that end an answer."""
    from transformers import GenerationConfig

    if (folder / "generation_config.json").exists():
        module.generation_config = GenerationConfig.from_pretrained(folder)
