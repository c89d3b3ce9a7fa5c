"""Where the configs of models differ in what their weights mean: shapes agree there, so nothing else would show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from mergecore.errors import some
from mergecore.planning.meaning.config_meaning import WINDOW, Path, Said, meaning, nests_text
from mergecore.types import Checkpoint, Json

_SEEN = re.compile(r"\w*bias|bias of attention|size of a head")
"""What the tensors would show if it differed from what null or false says."""
Completed = Callable[[Checkpoint], Mapping[str, Json] | None]
"""The config of a model as its loader completes it; None when that is unknown."""
_NAMED = 6


def differences(
    models: Sequence[Checkpoint],
    primary: Checkpoint,
    completed: Completed = lambda model: None,
    *,
    stacked: bool = False,
) -> Iterator[str]:
    """A sentence for each model whose config gives weights another meaning than that of `primary`, which is written.

    Both are compared in words that do not depend on the release that wrote them.  What one of them does not say
    has the value that its loader takes; where that is unknown, only what all loaders take alike is compared.

    stacked: layers were chosen, so what differs between them is not compared for the whole.
    """
    for model in models:
        if model.config == primary.config or not (model.config and primary.config):
            continue
        found = _differing(primary, model, completed, stacked)
        if found:
            told = some([_told(ours, theirs) for ours, theirs in found], _NAMED, mark="")
            yield (
                f"the weights of {primary.name} and {model.name} may not mean the same, their configs differ: "
                f"{told}; the config of {primary.name} is written"
            )


def unconfigured(models: Sequence[Checkpoint], primary: Checkpoint) -> Iterator[str]:
    """A sentence for each model that has no config.json while another one has, or one for all where none has."""
    for model in models:
        if not model.config and primary.config:
            yield (
                f"{model.name} has no config.json, so it is not known whether its weights mean the same as those of "
                f"{primary.name}; they are assumed to, and the config of {primary.name} is written"
            )
    configured = [model.name for model in models if model.config]
    if configured and not primary.config:
        yield (
            f"{primary.name} gives the config and has no config.json, so the output has none; to take that of "
            f"{configured[0]}, name {configured[0]} first or as base_model"
        )
    stored = [model for model in models if model.weight_files]
    if len(stored) > 1 and not configured:
        yield (
            "no model has a config.json: tensors are merged by their names, and nothing tells whether they mean the "
            "same in all models; no vocabulary is compared"
        )


def _differing(
    primary: Checkpoint, model: Checkpoint, completed: Completed, stacked: bool
) -> list[tuple[Said, Said]]:
    pair = [primary.config, model.config]
    ours, theirs = _read(pair, pair, stacked)
    lacking = [
        path
        for path in ours.keys() ^ theirs.keys()
        if not (_SEEN.fullmatch(path[-1]) and (ours.get(path) or theirs[path]).value in (None, False))
    ]
    if lacking and pair[0].get("model_type") == pair[1].get("model_type"):
        whole = [full for one in (primary, model) if (full := completed(one)) is not None]
        if len(whole) == len(pair):
            own, added = _read(pair, whole, stacked), _read(whole, whole, stacked)
            ours, theirs = (_filled(*one) for one in zip(own, added, strict=True))
        else:
            ours, theirs = _as_usual(ours, theirs), _as_usual(theirs, ours)
    both = [(ours[path], theirs[path]) for path in sorted(ours.keys() & theirs.keys())]
    return [(one, other) for one, other in both if one.value != other.value]


def _read(
    configs: Sequence[Mapping[str, Json]], shapes: Sequence[Mapping[str, Json]], stacked: bool
) -> tuple[dict[Path, Said], dict[Path, Said]]:
    """What two configs say; a text model counts for the whole if only one of the `shapes` nests it."""
    hoisted = len({nests_text(one) for one in shapes}) > 1
    ours, theirs = (meaning(one, stacked=stacked, hoisted=hoisted) for one in configs)
    return _alike(ours, theirs)


def _filled(own: Mapping[Path, Said], whole: Mapping[Path, Said]) -> dict[Path, Said]:
    """What a config says, and what its loader adds; that settles what null stands for, and where windows are."""
    added = {
        path: replace(said, by_default=True)
        for path, said in whole.items()
        if said.value is not None or path[-1] == WINDOW
    }
    sure = {
        path: said
        for path, said in own.items()
        if path not in added or (said.value is not None and path[-1] != WINDOW) or said == whole[path]
    }
    return {**added, **sure}


def _as_usual(own: Mapping[Path, Said], other: Mapping[Path, Said]) -> dict[Path, Said]:
    """What a config says, and for what only the other one says the value that loaders take, if all take the same."""
    usual = {}
    for path, said in other.items():
        name = path[-1]
        if name == "type" and path[-3:-2] == ("rope",) and not any(one[:-1] == path[:-1] for one in own):
            usual[path] = Said("default", "rope_scaling", None, by_default=True)
        elif name in _USUAL:
            usual[path] = Said(_USUAL[name], said.key, _USUAL[name], by_default=True)
    return {**usual, **own}


_USUAL: dict[str, Json] = {
    "is_causal": True,
    "use_bidirectional_attention": False,
    "alibi": False,
    "use_alibi": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    WINDOW: None,
}


def _alike(ours: dict[Path, Said], theirs: dict[Path, Said]) -> tuple[dict[Path, Said], dict[Path, Said]]:
    """Both with rotations by kinds of layers if one has them: what is said about all holds for full attention."""
    if not any(path[-3:-1] == ("rope", "full_attention") for path in (*ours, *theirs)):
        return ours, theirs
    return _by_kinds(ours), _by_kinds(theirs)


def _by_kinds(said: Mapping[Path, Said]) -> dict[Path, Said]:
    named = {path: one for path, one in said.items() if path[-3:-1] != ("rope", "")}
    for path, one in said.items():
        if path[-3:-1] == ("rope", ""):
            named.setdefault((*path[:-2], "full_attention", path[-1]), one)
    return named


def _told(ours: Said, theirs: Said) -> str:
    key = "" if theirs.key == ours.key else f"{theirs.key} "
    return f"{ours.key} {_shown(ours)} and {key}{_shown(theirs)}"


def _shown(said: Said) -> str:
    text = repr(said.shown)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f"{text} (by default)" if said.by_default else text


_LONGEST = 80
