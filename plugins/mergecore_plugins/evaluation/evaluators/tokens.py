"""Log probabilities that a model gives tokens, in batches whose padding changes nothing; read `losses`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergecore import InputError
from mergecore.errors import Collector
from mergecore.types import EvaluatedModel

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 2048
"""Tokens of a batch at most, where it has more than one sequence: logits are large."""
_ROWS = 256
"""Rows of logits that are made float32 at once."""
_AHEAD = 4
"""Batches that are put in order of length together."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a sequence; those from `first` on, which is 1 at least, are to be predicted."""

    ids: tuple[int, ...]
    first: int = 1

    @property
    def predicted(self) -> int:
        """How many are predicted."""
        return len(self.ids) - self.first


@dataclass(frozen=True)
class Batch:
    """Sequences that are run together, padded on the right: which ones, and what the model is given."""

    which: tuple[int, ...]
    given: dict[str, Any]


def losses(module: Any, sequences: Sequence[Tokens], batch: int) -> Iterator[float]:
    """For each sequence, in order, the sum of -log p of the tokens that are predicted, in nats."""
    import torch

    with torch.inference_mode():
        for group in groups(sequences, batch):
            found: dict[int, float] = {}
            for one in batches(sequences, group, batch, module.device):
                logits = module(**one.given).logits
                for row, index in enumerate(one.which):
                    found[index] = _loss(logits[row], sequences[index])
            yield from (found[index] for index in group)


def batch_of(batch: int | None, module: Any) -> int:
    """How many sequences are run together: what is asked for; else 1 on the host, which gains nothing by more.

    One alone has the numbers of a plain loop to the last digit, in 16 bits too.
    """
    return batch or (1 if module.device.type == "cpu" else 8)


def groups(sequences: Sequence[Any], batch: int) -> Iterator[range]:
    """Stretches of sequences, in order, that are put into batches together."""
    count = batch * _AHEAD
    for start in range(0, len(sequences), count):
        yield range(start, min(start + count, len(sequences)))


def batches(sequences: Sequence[Tokens], group: Sequence[int], batch: int, device: Any) -> Iterator[Batch]:
    """The sequences of a group in batches of about one length, the longest first."""
    left = sorted(group, key=lambda index: -len(sequences[index].ids))
    while left:
        longest = len(sequences[left[0]].ids)
        count = max(1, min(batch, AT_ONCE // max(longest, 1)))
        which, left = tuple(left[:count]), left[count:]
        yield Batch(which, _padded([sequences[index].ids for index in which], device))


def _padded(rows: Sequence[Sequence[int]], device: Any) -> dict[str, Any]:
    """Rows of tokens as tensors; a mask where their lengths differ.  No row sees what stands behind it."""
    import torch

    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    given: dict[str, Any] = {"input_ids": ids.to(device)}
    return given if mask.all() else {**given, "attention_mask": mask.to(device)}


def _loss(logits: Tensor, sequence: Tokens) -> float:
    """The sum of -log p, in float32 for each token, in float64 for all; logits: (tokens, vocabulary)."""
    import torch

    targets = torch.tensor(sequence.ids[sequence.first :], device=logits.device)
    rows = logits[sequence.first - 1 : len(sequence.ids) - 1]  # the row before a token predicts it
    total = 0.0
    for start in range(0, len(targets), _ROWS):
        some = slice(start, start + _ROWS)
        each = torch.nn.functional.cross_entropy(rows[some].float(), targets[some], reduction="none")
        total += each.double().sum().item()
    return total


# ---- which models ------------------------------------------------------------------------------------------


def check_causal(models: Sequence[EvaluatedModel]) -> None:
    """Raise E271 for every model that does not continue a text token by token, E240 for one without a tokenizer."""
    problems = Collector()
    for model in models:
        with problems.collecting():
            if not is_causal(model):
                what = f"{model.name}: not a language model that continues a text"
                raise InputError("E271", what, hint="use an evaluator for models of its kind")
            model.tokenizer()
    problems.raise_any()


def is_causal(model: EvaluatedModel) -> bool:
    """Whether a model predicts the next token of a text."""
    import transformers

    config = model.config()
    kinds = [getattr(transformers, str(name), None) for name in getattr(config, "architectures", None) or ()]
    makes_text = any(
        isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel) and kind.can_generate()
        for kind in kinds
    )
    return makes_text and not getattr(config, "is_encoder_decoder", False)


def longest_of(model: EvaluatedModel) -> int | None:
    """How many tokens a model can take at once, as its config says."""
    return longest_in(model.config())


def longest_in(config: Any) -> int | None:
    """How many tokens a model of this config can take at once."""
    inner = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = getattr(inner, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def first_token(model: EvaluatedModel) -> int | None:
    """The token that may stand before a text: that which begins one, or else that which ends one."""
    tokenizer = model.tokenizer()
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return found if isinstance(found, int) else None


def opening(model: EvaluatedModel, text: str) -> list[int]:
    """The tokens of a text that goes on: without those that its tokenizer puts behind a text, such as its end."""
    return opening_by(model.tokenizer(), text)


def opening_by(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that goes on, by a tokenizer."""
    begin, inner = _parts(tokenizer, text)
    return [*(begin if inner else _parts(tokenizer, "a")[0]), *inner]


def _parts(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """The tokens that a tokenizer puts before a text, and those of the text."""
    whole = [*tokenizer(text).input_ids]
    inner = [*tokenizer(text, add_special_tokens=False).input_ids]
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return whole[:start], inner
    return [], whole
