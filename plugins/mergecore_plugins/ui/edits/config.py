"""Changes of a merge config as a person would name them: a parameter, a model, a method, a base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, StrictStr

from mergecore.files import DocPath
from mergecore.types import Json
from mergecore_plugins.ui.edits.changes import Edit, append_item, insert_item, remove, set_value

ORDER = (
    "name",
    "merge_method",
    "base_model",
    "models",
    "slices",
    "modules",
    "include",
    "exclude",
    "parameters",
    "tokenizer",
    "tokenizer_source",
    "chat_template",
    "dtype",
    "out_dtype",
)
"""The order of keys as one reads them; a new one comes behind those before it, others at the end."""


def set_key(text: str, key: str, value: Json, document: int = 0) -> Edit:
    """The text with another method, base model, dtype, tokenizer or other key of the top.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    return set_value(text, (key,), value, document, before(key))


def before(key: str) -> tuple[str, ...]:
    """The keys of the top behind which a new one comes; none where it comes at the end."""
    return ORDER[: ORDER.index(key)] if key in ORDER else ()


def set_parameter(
    text: str, name: str, value: Json, owner: DocPath = (), document: int = 0, *, only: bool = False
) -> Edit:
    """The text with a parameter of the model, source, slice or module at `owner`, or of everything.

    only: leave the text as it is where it has the parameter already, such as one inserted with its default.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    path, after = (*owner, "parameters", name), () if owner else before("parameters")
    edit = set_value(text, path, value, document, after, open_up=True)
    there = only and len(edit.splices) == 1 and edit.splices[0].start < edit.splices[0].end
    return Edit(text, text) if there else edit


def remove_parameter(text: str, name: str, owner: DocPath = (), document: int = 0) -> Edit:
    """The text without that parameter, and without `parameters` if it was the only one.

    Raises:
        ConfigError: E120 for what cannot be removed without touching something else; what is wrong with the text.
    """
    return remove(text, (*owner, "parameters", name), document, prune=True)


def add_model(text: str, model: Json, body: DocPath = (), document: int = 0) -> Edit:
    """The text with one more entry in the models at the top, or in those of a module at `body`.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    return append_item(text, (*body, "models"), model, document)


def remove_model(text: str, path: DocPath, document: int = 0) -> Edit:
    """The text without the entry of a model, or without a source of a slice.

    Raises:
        ConfigError: E120 for what cannot be removed without touching something else; what is wrong with the text.
    """
    return remove(text, path, document)


# ---- what a page asks for ------------------------------------------------------------------------------------


class Change(BaseModel):
    """A change as a page asks for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    op: Literal["set", "remove", "append", "insert"]
    path: tuple[StrictStr | StrictInt, ...]
    value: JsonValue = None
    document: int = Field(default=0, ge=0)


def edited(text: str, changes: Iterable[Change]) -> Edit:
    """The text after several changes, each of what the one before it leaves.

    Raises:
        ConfigError: E120 for what cannot be changed without touching something else; what is wrong with the text.
    """
    edit = Edit(text, text)
    for one in changes:
        edit = edit.then(_one(edit.after, one))
    return edit


def _one(text: str, change: Change) -> Edit:
    value: Json = change.value
    if change.op == "set":
        after = before(str(change.path[0])) if change.path else ()
        return set_value(text, change.path, value, change.document, after)
    if change.op == "append":
        return append_item(text, change.path, value, change.document)
    if change.op == "insert":
        return insert_item(text, change.path, value, change.document)
    return remove(text, change.path, change.document)
