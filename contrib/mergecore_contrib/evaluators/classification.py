"""How many images or texts a classifier puts into the right class; read `scores_of`.

Images are an `.npz` file of the arrays `images` and `labels`, as those of `mergecore demo`; texts are lines of JSON.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergecore import ConfigError, Evaluator, Field, InputError, Params, hookimpl
from mergecore.errors import did_you_mean
from mergecore.files import read_small
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch
from mergecore_contrib.evaluators import data

if TYPE_CHECKING:
    from torch import Tensor


class ClassificationParams(Params):
    """What is to be classified: images or texts."""

    images: Path | None = Field(default=None, description="an .npz file with the arrays images and labels")
    texts: Path | None = Field(
        default=None, description='a JSONL file with {"text": …, "label": …} in each line'
    )
    divide_by: float = Field(default=1.0, gt=0, description="what pixels are divided by, such as 255")
    limit: int | None = Field(
        default=None, ge=1, description="how many samples to take at most; all by default"
    )
    batch_size: int = Field(default=64, ge=1, description="how many samples the model gets at once")


@hookimpl
def mergecore_evaluators() -> Iterator[Evaluator[Any]]:
    yield Evaluator(
        name="classification",
        evaluate=scores_of,
        params=ClassificationParams,
        summary="share of images or texts in the right class",
        check=check,
        files=lambda params: tuple(one for one in (params.images, params.texts) if one),
        keeps_models=True,
    )


Sample = tuple[Any, Any]
"""An image (channels, height, width) or a text, and its label: the number of a class, or its name."""


def scores_of(model: EvaluatedModel, params: ClassificationParams, watch: Watch) -> Iterable[Score]:
    """The accuracy, and the mean loss of the right classes, which also tells models of one accuracy apart."""
    import torch

    samples = _samples(params)
    module = model.module()
    numbers = _classes(module, model.name)
    labels = [_number(label, numbers, params) for _, label in samples]
    right: list[float] = []
    losses: list[float] = []
    for start in range(0, len(samples), params.batch_size):
        batch = [content for content, _ in samples[start : start + params.batch_size]]
        wanted = torch.tensor(labels[start : start + params.batch_size])
        logits = _logits(model, module, batch, params)  # (batch, classes)
        right += (logits.argmax(dim=1) == wanted).double().tolist()
        losses += torch.nn.functional.cross_entropy(logits, wanted, reduction="none").double().tolist()
        watch(EvaluationProgress(done=len(right), total=len(samples), scores=_scores(right, losses)))
    return _scores(right, losses)


def check(params: ClassificationParams, models: Sequence[EvaluatedModel]) -> None:
    """Look at the samples, and for texts at the tokenizers.

    Raises:
        ConfigError: E105 for both or none of images and texts.
        InputError: E270 for samples that cannot be used.
        InputError: E240 for a model without a tokenizer, where there are texts.
    """
    if (params.images is None) == (params.texts is None):
        what = "classification takes images or texts, and just one of them"
        raise ConfigError("E105", what, hint="set images: FILE.npz or texts: FILE.jsonl")
    _samples(params)
    for model in models if params.texts else ():
        model.tokenizer()


def _scores(right: Sequence[float], losses: Sequence[float]) -> tuple[Score, ...]:
    def score(name: str, values: Sequence[float], goal: Any) -> Score:
        value = math.fsum(values) / len(values)
        return Score(name=name, value=value, goal=goal, samples=len(values), per_sample=tuple(values))

    return score("accuracy", right, "max"), score("loss", losses, "min")


def _logits(model: EvaluatedModel, module: Any, batch: Sequence[Any], params: ClassificationParams) -> Tensor:
    """The logits of a batch, (batch, classes).

    Raises:
        InputError: E270 for samples that the model cannot take.
    """
    import torch

    try:
        with torch.inference_mode():
            if params.images is not None:
                logits = [_of_images(module, batch)]
            else:
                tokenizer = model.tokenizer()
                alone = tokenizer.pad_token is None or module.config.pad_token_id is None
                logits = [
                    _of_texts(module, tokenizer, part)
                    for part in ([[one] for one in batch] if alone else [batch])
                ]
        return torch.cat(logits).float().cpu()
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "give it what its config.json says, such as image_size and num_channels"
        place = str(params.images or params.texts)
        raise InputError(
            "E270", f"{model.name} cannot take these samples: {reason}", place=place, hint=hint
        ) from error


def _of_images(module: Any, batch: Sequence[Tensor]) -> Tensor:
    import torch

    logits: Tensor = module(pixel_values=torch.stack(list(batch)).to(module.device, module.dtype)).logits
    return logits


def _of_texts(module: Any, tokenizer: Any, batch: Sequence[str]) -> Tensor:
    longest = min(
        tokenizer.model_max_length, getattr(module.config, "max_position_embeddings", None) or 1 << 20
    )
    several = len(batch) > 1
    tokens = tokenizer(list(batch), padding=several, truncation=True, max_length=longest, return_tensors="pt")
    logits: Tensor = module(**tokens.to(module.device)).logits
    return logits


def _classes(module: Any, name: str) -> Mapping[str, int]:
    """The number of each class by its name.

    Raises:
        InputError: E224 for a model that is not a classifier.
    """
    if "Classification" not in type(module).__name__:
        what = f"{name}: {type(module).__name__} does not put things into classes"
        raise InputError("E224", what, hint="evaluate a classifier")
    found = {str(label): int(number) for number, label in module.config.id2label.items()}
    if len(found) < 2:
        raise InputError("E224", f"{name}: it has one class only", hint="evaluate a classifier")
    return found


def _number(label: Any, classes: Mapping[str, int], params: ClassificationParams) -> int:
    """The number of a class that is given by it, or by the name that the model has for it."""
    if isinstance(label, str) and label in classes:
        return classes[label]
    if isinstance(label, int) and 0 <= label < len(classes):
        return label
    what = f"the model has no class {label!r}{did_you_mean(str(label), list(classes))}"
    place = str(params.images or params.texts)
    raise ConfigError(
        "E105", what, place=place, hint="write the number of a class, or its name in config.json"
    )


def _samples(params: ClassificationParams) -> list[Sample]:
    file = params.images or params.texts
    assert file is not None
    return data.limited(
        _images(file, params.divide_by) if params.images else _texts(file), params.limit, file
    )


def _images(file: Path, divide_by: float) -> list[Sample]:
    import numpy as np
    import torch

    hint = "images: (n, height, width) or (n, channels, height, width); labels: n whole numbers"
    content = read_small(file, code="E270", max_bytes=data.MAX_BYTES)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (ValueError, LookupError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        what = "it is not an .npz file with the arrays images and labels"
        raise InputError("E270", what, place=str(file), hint=hint) from error
    if images.ndim not in (3, 4) or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        what = (
            f"these are not images and labels: {list(images.shape)}, {list(labels.shape)} of {labels.dtype}"
        )
        raise InputError("E270", what, place=str(file), hint=hint)
    pixels = torch.from_numpy(np.asarray(images, dtype=np.float32)) / divide_by
    pixels = pixels.unsqueeze(1) if images.ndim == 3 else pixels
    return list(zip(pixels, labels.tolist(), strict=True))


def _texts(file: Path) -> list[Sample]:
    wanted = '{"text": "a text", "label": "its class"}'
    return data.rows(data.json_lines(file), _text, "a text with its class", wanted)


def _text(value: object) -> Sample | None:
    text, label = (value.get("text"), value.get("label")) if isinstance(value, dict) else (None, None)
    right = isinstance(text, str) and isinstance(label, str | int) and not isinstance(label, bool)
    return (text, label) if right else None
