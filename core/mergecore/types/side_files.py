"""Side files: what lies beside the weights of a model, and who makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal

from mergecore.files.strict_json import Json
from mergecore.types.models import Checkpoint
from mergecore.types.params import NO_PARAMS, P
from mergecore.types.steps import Step


@dataclass(frozen=True)
class SideFiles:
    """Files by name, as bytes or as the path of a file to copy; and what the user should know about them."""

    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    """By their names in the folder."""
    warnings: tuple[str, ...] = ()
    """What the user should know."""


@dataclass(frozen=True, kw_only=True)
class SideFileRequest:
    """What side files are made from.  Its texts name no path of this machine."""

    models: tuple[Checkpoint, ...]
    """All models that are read."""
    primary: int = 0
    """Index of the model that gives config and side files."""
    names: tuple[str, ...] = ()
    """What the models are called, as it may be written."""
    merged: tuple[int, ...] = ()
    """The models that are merged as a whole: not those that are a part of others, or give single tokens only."""
    steps: tuple[Step, ...] = ()
    """How the tensors are made."""
    config: Mapping[str, Json] = field(default_factory=dict)
    """The config.json of the output."""
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    """Those that lie beside the weights so far: of the primary model, the tokenizer, and of side files before."""
    document: Mapping[str, Json] = field(default_factory=dict)
    """The config; under `command_line`, what the command line changes of the result; under `made_before`, the
    documents of plans that have made any of the models, by their names."""
    title: str = ""
    """The name that the config gives the model."""
    made_by: str = ""
    """The merge method, or what else made the model."""
    summary: str = ""
    """How the model was made, in a sentence, where that was no merge; {0} stands for the name of the first model."""
    card: Mapping[str, Json] = field(default_factory=dict)
    """Further metadata for the model card."""


@dataclass(frozen=True, kw_only=True)
class SideFile(Generic[P]):
    """Files that are made for an output, such as a model card.

    Those of mergecore itself are made unless a config says `side_files: {NAME: false}`; others where it says
    `side_files: {NAME: true}`, or their parameters in place of `true`.

    name: what a config calls it under `side_files`.
    params: its parameters, which a config gives in place of `true`.
    make: the files, none where there is nothing to say.  It may replace a file that a model gives, but neither
        config.json nor a file that another one made.
    rank: those of lower rank are made before; a later one sees their files.
    chosen_by: `chat_template` for a chat template, which a config chooses by `chat_template: NAME`.  It makes the
        file `chat_template.jinja`, and all that it gets are the models.
    summary: what the files are, in one line of at most 59 characters, for lists.
    """

    name: str
    make: Callable[[SideFileRequest, P], SideFiles]
    params: type[P] = NO_PARAMS
    rank: int = 50
    chosen_by: Literal["side_files", "chat_template"] = "side_files"
    summary: str = ""
