"""Which tensors have rows that a config names one by one: labels of a head, languages, speakers, tasks.

Read `namings`.  A key such as `id2label` or `lang2id` gives the names; a tensor has them by what it is called
and by its size, so that families that are not listed here are found, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mergecore.models.layers import nested_configs
from mergecore.types import Checkpoint, Description, Json, TensorInfo

LABEL = "label"
"""The subject of the names that belong to the rows of heads."""


NUMBERED = -1
"""No axis: tensors like `task_heads.0.weight`, whose number is the index of a name."""


@dataclass(frozen=True)
class Naming:
    """Names that a model gives to rows, and the tensors that have these rows."""

    key: str
    """Where they are written, such as `id2label`."""
    names: Mapping[int, str]
    """By index; empty where they say no more than the index, as LABEL_0 does."""
    tensors: Mapping[str, int] = field(default_factory=dict)
    """The axis of the rows in each tensor; `NUMBERED` where a module of its own has each name."""


def namings(
    model: Checkpoint, description: Description, further: Mapping[str, Json]
) -> dict[tuple[str, ...], Naming]:
    """What a model names, by the section of the config and the subject, such as `label`.

    further: a config beside config.json, such as generation_config.json.
    """
    found: dict[tuple[str, ...], Naming] = {}
    for config in (model.config, further):
        for path, section in sorted(nested_configs(config), key=lambda one: len(one[0])):
            for key in sorted(section, key=lambda one: not one.startswith("id")):
                subject, names = subject_of(key), _names(section[key])
                known = found.get((*path, subject))
                if subject and names and not (known and known.names):
                    where = ".".join((*path, key))
                    told = {} if _say_nothing(names) else names
                    tensors = dict(_tensors_of(subject, told, model, description)) if told else {}
                    found[*path, subject] = Naming(where, told, tensors)
    return found


def contradictions(model: Checkpoint) -> Iterator[str]:
    """A sentence for each two keys of a config that call one row by different names."""
    for path, section in nested_configs(model.config):
        seen: dict[str, tuple[str, dict[int, str]]] = {}
        for key in sorted(section, key=lambda one: not one.startswith("id")):
            subject, names = subject_of(key), _names(section[key])
            if not subject or not names or _say_nothing(names):
                continue
            first, ours = seen.setdefault(subject, (key, names))
            row = next((row for row in sorted(ours) if names.get(row, ours[row]) != ours[row]), None)
            if row is not None:
                said = [
                    f"{one[row]!r} by {'.'.join((*path, by))}" for by, one in ((first, ours), (key, names))
                ]
                yield (
                    f"the config of {model.name} contradicts itself: row {row} is {' and '.join(said)}; "
                    "the first of them is used"
                )


def may_have_rows(model: Checkpoint, names: Mapping[int, str]) -> bool:
    """Whether any tensor could have rows of these labels although it is not known for a head."""
    count = len(names)
    return any(one.shape[:1] == (count,) and not _NO_HEAD.search(name) for name, one in model.tensors.items())


# ---- keys --------------------------------------------------------------------------------------------------

_LISTS = {
    "classes": LABEL,
    "labels": LABEL,
    "languages": "language",
    "langs": "language",
    "speakers": "speaker",
    "tasks": "task",
    "lora_adaptations": "lora",
}
"""Keys that name rows although nothing in them says so."""

_MAPS = re.compile(
    r"ids?_?(?:2|to)_?(?P<a>\w+)|(?P<b>\w+?)s?_?(?:2|to)_?(?:code_?)?(?:ids?|idx|index)"
    r"|(?P<c>\w+?)_(?:names?|labels?|list|map|ids?|idx|index|mapping)"
)
_SAME = {
    "lang": "language",
    "spk": "speaker",
    "class": LABEL,
    "classe": LABEL,
}
_NO_SUBJECT = re.compile(
    r"stage|layer|module|feature|out(put)?|input|file|weight|model|\w*token|name|param\w*|keys?"
)


def subject_of(key: str) -> str:
    """What a key of a config names by index, such as `language` for `lang2id`; nothing for other keys."""
    if key in _LISTS:
        return _LISTS[key]
    match = _MAPS.fullmatch(key)
    stem = next((one for one in match.groups() if one), "") if match else ""
    stem = stem.removesuffix("_code")
    return "" if _NO_SUBJECT.fullmatch(stem) else _SAME.get(stem, stem)


def _names(value: Json) -> dict[int, str]:
    """Names by index, of `{"0": "a"}`, `{"a": 0}` and `["a"]` alike; none of anything else."""
    if isinstance(value, list):
        return (
            dict(enumerate(map(str, value))) if value and all(isinstance(one, str) for one in value) else {}
        )
    if not isinstance(value, dict):
        return {}
    if all(isinstance(name, (str, int)) and re.fullmatch(r"\d{1,9}", key) for key, name in value.items()):
        return {int(key): str(name) for key, name in value.items()}
    turned = {number: name for name, number in value.items() if type(number) is int and number >= 0}
    return dict(sorted(turned.items())) if len(turned) == len(value) else {}


def _say_nothing(names: Mapping[int, str]) -> bool:
    """Whether the names are those that a program invents, the index with or without a word."""
    return all(
        re.fullmatch(rf"((label|class|id|lang|speaker|task)[ _-]?)?0*{number}", name.casefold())
        for number, name in names.items()
    )


# ---- tensors -----------------------------------------------------------------------------------------------


def _tensors_of(
    subject: str, names: Mapping[int, str], model: Checkpoint, description: Description
) -> Iterator[tuple[str, int]]:
    """The tensors whose rows have these names, each with its axis of rows."""
    count = max(names) + 1
    tensors = {
        name: tensor
        for name, tensor in model.tensors.items()
        if description.tensors[name].vocabulary_axis is None and tensor.shape
    }
    found = dict(_heads(count, tensors, description)) if subject == LABEL else {}
    mine = {name: one for name, one in tensors.items() if subject != LABEL and _speaks_of(name, subject)}
    found |= {name: one.shape.index(count) for name, one in mine.items() if count in one.shape}
    found = found or dict.fromkeys(_numbered(subject, set(names), tensors), NUMBERED)
    yield from (found or {name: 0 for name, one in mine.items() if _has_spare_rows(one, count)}).items()


def _numbered(subject: str, wanted: set[int], tensors: Mapping[str, TensorInfo]) -> Iterator[str]:
    """The tensors of modules that are numbered as the names are, one for each."""
    lists: dict[str, dict[str, int]] = {}
    for name in tensors:
        match = re.fullmatch(r"(.+?)\.(\d+)(\..+)?", name)
        if match and (_HEAD.search(match[1] + ".") if subject == LABEL else _speaks_of(match[1], subject)):
            lists.setdefault(match[1], {})[name] = int(match[2])
    for numbers in lists.values():
        if len(wanted) > 1 and set(numbers.values()) == wanted:
            yield from numbers


def _speaks_of(name: str, subject: str) -> bool:
    """Whether all words of the subject are in the name of a tensor, in the singular."""
    words = {_SAME.get(word, word) for word in (one.removesuffix("s") for one in re.split(r"[._\d]+", name))}
    return {_SAME.get(one, one) for one in subject.removesuffix("s").split("_")} <= words


def _has_spare_rows(tensor: TensorInfo, count: int) -> bool:
    return "embed" in tensor.name and len(tensor.shape) == 2 and tensor.shape[0] > count


_COLUMNS = re.compile(r"(^|\.)objective\.weight")
"""Weights whose columns are labels, as in networks that tell speakers apart."""
_HEAD = re.compile(
    r"(^|\.)(\w*classif\w*|score|class_embed|class_predictor|logits_proj|\w*final_layer|objective|\w*transitions?)(\.|$)"
)
"""Heads wherever they stand; others are known by standing outside the backbone."""
_SPARE = re.compile(r"(^|\.)(class_labels_classifier|class_predictor|class_embed)\.")
"""Heads that may have a row more than there are labels, for nothing of all that."""
_NO_HEAD = re.compile(
    r"(?i)(^|[._])(qa_outputs|seq_relationship|\w*bbox\w*|\w*box|\w*norm\w*|ln|ln_\w+|bn\d*|batchnorm\w*|running_\w+|embeddings?|(?<!class_)(?<!label_)embed"
    r"|position\w*|queries|query\w*|mask_\w+|aggregation\w*|\w*predictions)([._]|$)"
)
"""Tensors whose rows mean the same in every model."""
_BEFORE = re.compile(
    r"(^|\.)(dense|projector|pre_classifier|pooler|summary|transform|proj|linear1|fc1|conv\w*|adapter|feature_extractor|tdnn)(\.|$)"
)
"""What stands before the last matrix of a head; it is one of them only where nothing else is."""


def _heads(
    count: int, tensors: Mapping[str, TensorInfo], description: Description
) -> Iterator[tuple[str, int]]:
    """The heads for that many labels, one for each row."""
    backbone = _backbone(description)
    found = {}
    for name, tensor in tensors.items():
        axis = 1 if _COLUMNS.search(name) and len(tensor.shape) == 2 else 0
        inside = name.startswith(backbone) or description.tensors[name].stack is not None
        head = _HEAD.search(name) is not None
        spare = 1 if _SPARE.search(name) else 0
        of_size = tensor.shape[axis] in (count, count + spare)
        if of_size and not _NO_HEAD.search(name) and (head or not inside):
            found[name] = axis
    yield from _last(found, tensors).items()


def _last(found: Mapping[str, int], tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    """Of all that has as many rows as there are labels what comes last, and the biases of that."""
    columns = {name: axis for name, axis in found.items() if axis}
    late = {name: axis for name, axis in found.items() if not _BEFORE.search(name)}
    left = columns or late or found
    modules = {name.rpartition(".")[0] for name in left if len(tensors[name].shape) > 1}
    ends: dict[str, int] = {}
    for one in modules:
        ends[_parent(one)] = max(_number_of(one), ends.get(_parent(one), -1))
    modules = {
        one for one in modules if _number_of(one) == ends[_parent(one)] or ".class_embed." in f".{one}"
    }
    return {
        name: axis
        for name, axis in left.items()
        if name.rpartition(".")[0] in modules or name.endswith("_transitions")
    }


def _parent(module: str) -> str:
    """The list that a module with a number is in; any other module itself."""
    return module.rpartition(".")[0] if _number_of(module) >= 0 else module


def _number_of(module: str) -> int:
    """The number that a module of a list has, -1 for other modules."""
    number = module.rpartition(".")[2]
    return int(number) if number.isdecimal() else -1


def _backbone(description: Description) -> tuple[str, ...]:
    """How the names of the tensors begin that are not of a head."""
    return tuple({stack.prefix.split(".")[0] + "." for stack in description.stacks} - {"."})
