"""Changes of a config's text that keep its comments, its order and its style; read `changes`."""

from mergecore_plugins.ui.edits.changes import (
    Edit,
    append_item,
    insert_item,
    remove,
    set_value,
)
from mergecore_plugins.ui.edits.config import (
    Change,
    add_model,
    before,
    edited,
    remove_model,
    remove_parameter,
    set_key,
    set_parameter,
)
from mergecore_plugins.ui.edits.place import Splice

__all__ = [
    "Change",
    "Edit",
    "Splice",
    "add_model",
    "append_item",
    "before",
    "edited",
    "insert_item",
    "remove",
    "remove_model",
    "remove_parameter",
    "set_key",
    "set_parameter",
    "set_value",
]
