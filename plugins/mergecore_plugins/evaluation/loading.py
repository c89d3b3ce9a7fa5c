"""A model of transformers, made of tensors in memory and of the files beside them; read `module_of`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mergecore import InputError
from mergecore.errors import some

if TYPE_CHECKING:
    from torch import Tensor

Files = Mapping[str, Path | bytes]
"""Files beside weights, by name: their bytes, or where they are."""


def module_of(name: str, tensors: Mapping[str, Tensor], files: Files, dtype: str = "auto") -> Any:
    """The model of the class that its config names, with these tensors, on the host; it does not train.

    dtype: what it computes in, by its name in torch; `auto` for that of the tensors.

    Raises:
        InputError: E224 when transformers has no class for it, E221 when tensors that this needs are not there: none
            of its weights may be left to chance.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with beside(files) as folder:
        kind, settings = _class(name, folder)
        with torch.no_grad():
            module, told = kind.from_pretrained(
                None, config=settings, state_dict=dict(tensors), dtype=dtype, output_loading_info=True
            )
        if kind.can_generate() and (folder / "generation_config.json").exists():
            module.generation_config = GenerationConfig.from_pretrained(folder)
    lacking = [*told["missing_keys"], *(str(one) for one in told["mismatched_keys"])]
    if lacking:
        what = f"{name}: {len(lacking)} weights that its class needs are missing, or have another shape"
        raise InputError("E221", f"{what}: {some(sorted(lacking), 3)}", hint="complete the model")
    return module.eval()


def config_of(name: str, files: Files) -> Any:
    """The config of a model.

    Raises:
        InputError: E224 when transformers cannot read it.
    """
    with beside(files) as folder:
        return _config(name, folder)


def class_of(name: str, files: Files) -> Any:
    """The class of transformers that a model is of.

    Raises:
        InputError: E224 when transformers has none.
    """
    with beside(files) as folder:
        return _class(name, folder)[0]


def check_makes_text(name: str, files: Files, hint: str) -> None:
    """Raise E224 for a model that does not make text; `hint` is what to do."""
    kind = class_of(name, files)
    if not kind.can_generate():
        what = f"{name}: transformers has no class for it that makes text: {[kind.__name__]}"
        raise InputError("E224", what, hint=hint)


def tokenizer_of(name: str, files: Files) -> Any:
    """The tokenizer of a model.

    Raises:
        InputError: E240 when it has none that transformers can read.
    """
    import transformers

    with beside(files) as folder:
        try:
            return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            hint = "add the tokenizer files to the model"
            what = f"{name}: it has no tokenizer that transformers can read"
            raise InputError("E240", what, hint=hint) from error


@contextmanager
def beside(files: Files) -> Iterator[Path]:
    """A folder that holds the files while it lasts."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for inner, content in files.items():
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            (folder / inner).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        yield folder


def _config(name: str, folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        what = f"{name}: transformers cannot read its config.json: {reason}"
        raise InputError("E224", what, hint="add the config.json of the model") from error


def _class(name: str, folder: Path) -> tuple[Any, Any]:
    """The class that a config names first of those that transformers has, and the config."""
    import transformers

    settings = _config(name, folder)
    written = getattr(settings, "architectures", None)
    names = [one for one in written if isinstance(one, str)] if isinstance(written, list) else []
    known = [getattr(transformers, one, None) for one in names]
    kinds = [one for one in known if isinstance(one, type) and issubclass(one, transformers.PreTrainedModel)]
    if not kinds:
        what = f"{name}: transformers has no class for it: {written}"
        raise InputError("E224", what, hint="config.json names the class under 'architectures'")
    return next((one for one in kinds if one.can_generate()), kinds[0]), settings
