"""Checks of side files; read `check_side_file`, then `SIDE_FILE`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mergecore.pipeline.folders import merge
from mergecore.pipeline.plans import planner
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import Property, demand, hold
from mergecore.testing.kinds.vocabularies import check_file
from mergecore.testing.registries import registry_with
from mergecore.types import Json, SideFile, SideFileRequest, SideFiles
from mergecore.types.params import Params


def check_side_file(
    side_file: SideFile[Any],
    *,
    params: Params | Mapping[str, Json] | None = None,
    model: Path | str | None = None,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check the files that are made to lie beside weights.

    params: its parameters; None for the defaults.
    model: a model that it makes files for; None for a tiny Llama.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with side_file_case(side_file, params, model, registry) as case:
        hold(f"side file '{side_file.name}'", SIDE_FILE, case, without)


@dataclass
class SideFileCase:
    """A side file with its parameters, and a model that it is made for."""

    side_file: SideFile[Any]
    params: Params
    model: Path
    registry: Registry
    folder: Path

    @cached_property
    def request(self) -> SideFileRequest:
        """What the files are made from."""
        opened = planner(registry=self.registry).open(str(self.model))
        return SideFileRequest(
            models=(opened, opened),
            names=("org/first", "org/second"),
            merged=(0, 1),
            config=opened.config,
            files={name: path.read_bytes() for name, path in opened.side_files.items()},
            document={"merge_method": "linear", "models": [{"model": "org/first"}, {"model": "org/second"}]},
            title="a model",
            made_by="linear",
        )

    def make(self) -> SideFiles:
        """What is made."""
        made = self.side_file.make(self.request, self.params)
        demand(isinstance(made, SideFiles), f"`make` returns {type(made).__name__}; return SideFiles")
        return made


@contextmanager
def side_file_case(
    side_file: SideFile[Any],
    params: Params | Mapping[str, Json] | None = None,
    model: Path | str | None = None,
    registry: Registry | None = None,
) -> Iterator[SideFileCase]:
    """A case for `SIDE_FILE`."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        chosen = Path(model) if model else tiny_model(folder / "model")
        made = params if isinstance(params, Params) else side_file.params.model_validate(dict(params or {}))
        yield SideFileCase(side_file, made, chosen, registry or registry_with(SideFile, side_file), folder)


def _makes_files(case: SideFileCase) -> None:
    for name, content in case.make().files.items():
        check_file(name, content)
        demand(
            name != "config.json", "it makes config.json, which the core makes; give the file another name"
        )
    template = case.side_file.chosen_by == "chat_template"
    demand(
        not template or "chat_template.jinja" in case.make().files,
        "it is a chat template and makes no chat_template.jinja",
    )


def _contents(made: SideFiles) -> dict[str, bytes]:
    return {name: one if isinstance(one, bytes) else one.read_bytes() for name, one in made.files.items()}


def _makes_the_same(case: SideFileCase) -> None:
    demand(
        _contents(case.make()) == _contents(case.make()),
        "made twice, the files differ; leave out times and what has no order of its own",
    )


def _tells_no_paths(case: SideFileCase) -> None:
    made = case.make()
    for name, content in _contents(made).items():
        demand(
            str(case.folder).encode() not in content,
            f"'{name}' holds a path of this machine; use the names that the request has",
        )
    demand(
        not any(str(case.folder) in text for text in made.warnings), "a warning holds a path of this machine"
    )


def _leaves_the_request_alone(case: SideFileCase) -> None:
    before = json.dumps([dict(case.request.document), dict(case.request.config)]), dict(case.request.files)
    case.make()
    after = json.dumps([dict(case.request.document), dict(case.request.config)]), dict(case.request.files)
    demand(before == after, "it changes the request; copy what is to be changed")


def _is_merged(case: SideFileCase) -> None:
    said = case.params.model_dump(mode="json", exclude_defaults=True)
    config: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": str(case.model)}]}
    if case.side_file.chosen_by == "chat_template":
        config["chat_template"] = case.side_file.name
    else:
        config["side_files"] = {case.side_file.name: said or True}
    out = merge(config, case.folder / "out", registry=case.registry)
    demand((out / "config.json").is_file(), "a merge that asks for it has no config.json")


SIDE_FILE: Sequence[Property[SideFileCase]] = (
    Property("files", "files are named, and are there", _makes_files),
    Property("same", "made again, they are the same", _makes_the_same),
    Property("paths", "they hold no path of this machine", _tells_no_paths),
    Property("request", "the request stays as it is", _leaves_the_request_alone),
    Property("merge", "a merge that asks for it is made", _is_merged),
)
"""What every side file keeps."""
