"""Finds the tensors of a base by the names that its modules have in the model that was trained; read `Lookup.find`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mergecore.types import Json, TensorInfo


class Lookup:
    """The tensors of a base by their names in the model."""

    def __init__(self, base: Mapping[str, TensorInfo], config: Mapping[str, Json]) -> None:
        self._base, self._config = base, config
        self._short: dict[str, list[str]] = {}
        for name in base:
            self._short.setdefault(_short(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The base's name of a tensor of the model; None when it has none, or more than one could be meant."""
        if name in self._base:
            return name
        candidates = self._short.get(_short(name), ())
        return candidates[0] if len(candidates) == 1 else None

    @property
    def embeddings(self) -> str | None:
        """The table of the input's tokens, if there is just one."""
        found = [name for name in self._base if _INPUT_TABLE.search(name)]
        return found[0] if len(found) == 1 else None

    def shared(self, name: str) -> tuple[str, str] | None:
        """A table of encoder or decoder that the base stores once for both, as T5 does: its name here, and that table.

        None for any other tensor, and where the base stores the table of encoder or decoder itself.
        """
        found = _OF_A_SIDE.search(name)
        table = self.embeddings
        if not found or table is None or _OF_A_SIDE.search(table):
            return None
        return f"{table.rpartition('.weight')[0].rpartition('.')[0]}.{found[0]}".lstrip("."), table

    @property
    def head(self) -> str | None:
        """What the head would be called if the base did not tie it to its embeddings; None when it does not."""
        architectures = self._config.get("architectures")
        first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
        fills = first.endswith(("ForMaskedLM", "ForPreTraining"))
        generates = first.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel"))
        if not (generates or fills) or self.embeddings is None or any(is_head(name) for name in self._base):
            return None
        if fills:
            return "cls.predictions.decoder.weight"
        return "embed_out.weight" if self._config.get("model_type") == "gpt_neox" else "lm_head.weight"

    def bias_of(self, head: str) -> str | None:
        """The bias that the model ties to that of an untied head, as BERT's does; None where there is none."""
        beside = head.removesuffix("decoder.weight") + "bias"
        return beside if head.endswith("decoder.weight") and beside in self._base else None


def holds_in_out(config: Mapping[str, Json], module: str, otherwise: bool) -> bool:
    """Whether a family stores the weight of a layer as (in, out), as GPT-2 does; `otherwise` where it is not named."""
    family = config.get("model_type")
    if isinstance(family, str):
        return family in _CONV1D and module.rpartition(".")[2] in _CONV1D_LAYERS
    return otherwise


_CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp", "ctrl")
_CONV1D_LAYERS = ("c_attn", "c_proj", "c_fc", "q_attn")
"""The layers of these families hold their weights as (in, out)."""


def is_head(name: str) -> bool:
    """Whether a tensor is the head, whose rows are tokens."""
    return bool(_HEAD.search(name))


def is_table(name: str) -> bool:
    """Whether the rows of a tensor are tokens."""
    return is_head(name) or bool(_INPUT_TABLE.search(name))


_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output_projection|cls\.predictions\.decoder)\.weight$")
_INPUT_TABLE = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|shared|embed_in|tok_embeddings|backbone\.embeddings)\.weight$"
)


_OF_A_SIDE = re.compile(r"\b(encoder|decoder)\.(embed_tokens|word_embeddings)\.weight$")


def _short(name: str) -> str:
    """A name without the words that versions of transformers put in, leave out or move."""
    return ".".join(word for word in name.split(".") if word not in _MOVED)


_MOVED = ("model", "language_model", "transformer", "base_model", "bert", "roberta", "gpt_neox", "text_model")
