"""The side file `model_card`: what was merged, how, and the config, as README.md with metadata that hubs read.

Names come from configs and files; none of them can end the metadata or the code it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mergecore import Checkpoint, NoParams, SideFile, hookimpl
from mergecore.errors import printable
from mergecore.types import Json, SideFileRequest, SideFiles
from mergecore_plugins.side_files.stated import common, languages, licence, licences_in_words, with_parts

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@hookimpl
def mergecore_side_files() -> Iterator[SideFile[NoParams]]:
    """Yield the side file `model_card`."""
    yield SideFile(
        name="model_card", make=model_card, rank=90, summary="README.md: what was merged, how, and the config"
    )


def model_card(request: SideFileRequest, params: NoParams) -> SideFiles:
    """README.md."""
    import yaml

    models = request.models
    every = with_parts(models)
    hub: list[Json] = [*dict.fromkeys(_hub_id(one) for one in every if _is_from_hub(one))]
    front = _front(models[request.primary], every)
    front |= {"base_model": hub, "base_model_relation": "merge"} if hub else {}
    front |= request.card
    documents = [*_documents(request.document)]
    options = request.document.get("command_line", {})
    written = "---\n".join(map(_yaml, documents))
    text = (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"
        f"# {_plain(request.title or 'Merged model')}\n\n"
        f"{_how(request)}{_licences(every, _labels(request))}\n\n"
        f"{'The' if request.summary else 'with this'} config{_options(options)}:\n\n"
        f"{_fenced(written)}"
    )
    return SideFiles({"README.md": text.encode()})


def _how(request: SideFileRequest) -> str:
    """What made the model, and of which others."""
    quoted = [_code(name) for name in request.names]
    if request.summary:
        return request.summary.format(*quoted)
    listed = "\n".join(f"* {name}" for name in quoted)
    return f"This model was merged with mergecore by the method {_code(request.made_by)} from\n\n{listed}"


def _labels(request: SideFileRequest) -> list[str]:
    """What the models and the parts of them are called, one by one."""
    found: list[str] = []
    for name, model in zip(request.names, request.models, strict=True):
        found.append(_short(model) if model.parts else name)
        found += map(_short, model.parts)
    return [_code(one) for one in found]


def _short(model: Checkpoint) -> str:
    return _hub_id(model) if _is_from_hub(model) else model.folder.name


def _front(primary: Checkpoint, models: list[Checkpoint]) -> dict[str, Json]:
    """The metadata: what loads the model, and what its parts say about themselves."""
    library = _library(primary)
    tags: list[Json] = [*([library] if library != "transformers" else []), "mergecore", "merge"]
    front: dict[str, Json] = {"library_name": library, "tags": tags, **licence(models)}
    if spoken := languages(models):
        front["language"] = [*spoken]
    if task := common(models, "pipeline_tag"):
        front["pipeline_tag"] = task
    return front


def _library(primary: Checkpoint) -> str:
    """The library that loads the folder, as its files show."""
    files = primary.side_files
    if "modules.json" in files or "config_sentence_transformers.json" in files:
        return "sentence-transformers"
    if "_class_name" in primary.config:
        return "diffusers"
    if "pretrained_cfg" in primary.config:
        return "timm"
    return "transformers"


def _licences(models: Sequence[Checkpoint], names: Sequence[str]) -> str:
    """A paragraph on licences that differ."""
    stated = licences_in_words(models)
    lines = [f"* {name}: {_code(words)}" for name, words in zip(names, stated, strict=False)]
    return f"\n\n{_DIFFERING}\n\n" + "\n".join(lines) if lines else ""


_DIFFERING = (
    "The models are not all under one licence, so none is stated here. Before you publish this model, choose one "
    "that the licences of all of them allow:"
)


def _is_from_hub(model: Checkpoint) -> bool:
    return model.revision is not None and _HUB_ID.fullmatch(_hub_id(model)) is not None


def _hub_id(model: Checkpoint) -> str:
    return (model.full_reference or model.reference).path.removeprefix("hf:")


def _options(options: Json) -> str:
    """What the command line added to the config, in its words."""
    if not isinstance(options, dict) or not options:
        return ""
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
    return f" and {_code(words)}"


def _documents(config: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    """The documents of a file that makes the model again: those that one reads come before it."""
    before = config.get("made_before")
    found: dict[str, Mapping[str, Json]] = {}
    for name, one in before.items() if isinstance(before, dict) else ():
        if isinstance(one, dict) and one.get("name") == name:  # else a recipe makes it of its own document
            found |= {str(each.get("name")): each for each in _documents(one)}
    yield from found.values()
    yield {key: value for key, value in config.items() if key not in ("made_before", "command_line")}


def _yaml(config: Mapping[str, Json]) -> str:
    import yaml

    return yaml.safe_dump(
        dict(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )


def _fenced(text: str) -> str:
    """`text` as a block of code that nothing in it can end."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}yaml\n{text}{fence}\n"


def _code(text: str) -> str:
    """`text` as code within a line."""
    text = printable(" ".join(text.split()))
    quote = "`" * (1 + _longest_run(text))
    space = " " if "`" in text else ""
    return f"{quote}{space}{text}{space}{quote}"


def _plain(text: str) -> str:
    """`text` as a heading shows it, whatever it means in Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|&!~])", r"\\\1", printable(" ".join(text.split())))


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
