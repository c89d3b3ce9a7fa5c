"""The model card: what was merged, how, and the config, as README.md with metadata that hubs read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

from mergecore.types import Checkpoint, Json

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(title: str, method: str, models: Sequence[Checkpoint], document: Mapping[str, Json]) -> bytes:
    """The text of README.md; it names no local path."""
    hub = [one.reference.path.removeprefix("hf:") for one in models if _from_hub(one)]
    front: dict[str, Json] = {
        "library_name": "transformers",
        "tags": ["mergecore", "merge"],
        **({"base_model": list(hub), "base_model_relation": "merge"} if hub else {}),
    }
    names = "\n".join(f"* {_code(shown_name(one))}" for one in models)
    config = yaml.safe_dump(
        dict(document), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", config)), default=0))
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"
        f"# {_plain(title or 'Merged model')}\n\n"
        f"This model was merged with mergecore by the method {_code(method)} from\n\n{names}\n\n"
        f"with this config:\n\n{fence}yaml\n{config}{fence}\n"
    ).encode()


def shown_name(model: Checkpoint) -> str:
    """The model without the way to it on this machine."""
    path = model.reference.path
    return (
        str(model.reference)
        if _from_hub(model) or not path.startswith(("/", "~"))
        else path.rstrip("/").split("/")[-1]
    )


def _from_hub(model: Checkpoint) -> bool:
    return (
        model.revision is not None and _HUB_ID.fullmatch(model.reference.path.removeprefix("hf:")) is not None
    )


def _code(text: str) -> str:
    quote = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return (
        f"{quote} {' '.join(text.split())} {quote}"
        if "`" in text
        else f"{quote}{' '.join(text.split())}{quote}"
    )


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))
