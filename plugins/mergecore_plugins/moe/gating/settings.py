"""What a document says of gates and prompts; read `GateKeys` and `PromptKeys`, from which its schema inherits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from mergecore import Field, Params

GateMode: TypeAlias = Literal[
    "hidden", "hidden_avg", "hidden_last", "cheap_embed", "random", "uniform_random", "router_input"
]

RANDOM: tuple[GateMode, ...] = ("random", "uniform_random")
"""Modes that look at no prompt."""

MODES: dict[GateMode, str] = {
    "hidden": "the hidden state at the last token of each prompt, as it enters the layer",
    "hidden_avg": "the mean of the hidden states of all tokens of a prompt",
    "hidden_last": "another word for hidden",
    "cheap_embed": "the sum of the embeddings of all tokens; the model is not run",
    "random": "standard normal numbers",
    "uniform_random": "uniform numbers, as a fresh linear layer has them",
    "router_input": "fitted to tell the experts' prompts apart, token by token, by what the router will see",
}


class PromptFile(Params):
    """A file of prompts."""

    file: str


def _prompts(value: Any) -> Any:
    """A mapping is a file, a text a list of one; everything else a list of texts."""
    if isinstance(value, str):
        return (value,)
    return PromptFile.model_validate(value) if isinstance(value, dict) else value


_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {
            "type": "object",
            "properties": {"file": {"type": "string", "description": "a file with a prompt in each line"}},
            "required": ["file"],
        },
        {"type": "null"},
    ]
}

Prompts: TypeAlias = "tuple[str, ...] | PromptFile | None"
Written = Annotated[tuple[str, ...] | PromptFile | None, BeforeValidator(_prompts), WithJsonSchema(_SCHEMA)]
"""Texts, or `{file: …}`, where there is one in each line, or a list of them as JSON."""


class PromptKeys(Params):
    """The keys of an expert that say what it is for."""

    positive_prompts: Written = Field(default=None, description="texts like those that this expert is for")
    negative_prompts: Written = Field(default=None, description="texts like those that it is not for")


class GateKeys(Params):
    """The keys of a document that say how the routers are made."""

    gate_mode: GateMode = Field(default="hidden", description="where the rows of the routers come from")
    top1_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="the share that the first choice gets of a token of the prompts, on average; scales the routers",
    )
    gate_center: bool = Field(
        default=False,
        description="subtract what the rows of all experts have in common, before they are scaled",
    )
    chat_prompts: bool = Field(
        default=False, description="put each prompt into the chat template, as what a user says"
    )
