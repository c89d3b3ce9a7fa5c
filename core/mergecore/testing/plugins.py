"""Checks of everything that an installed plugin provides; read `findings_of`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from mergecore.errors import ConfigError, did_you_mean
from mergecore.plugins.registry import WORD_OF, Plugin, Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import Finding, NotCheckedError, Property, survey, told
from mergecore.testing.kinds.architectures import ARCHITECTURE, architecture_case
from mergecore.testing.kinds.commands import COMMAND, CommandCase
from mergecore.testing.kinds.evaluators import EVALUATOR, evaluator_case
from mergecore.testing.kinds.executors import EXECUTOR, executor_case
from mergecore.testing.kinds.mixtures import MOE_FAMILY, family_case
from mergecore.testing.kinds.policies import POLICY, policy_case
from mergecore.testing.kinds.recipes import RECIPE, recipe_case
from mergecore.testing.kinds.reporters import REPORTER
from mergecore.testing.kinds.samplers import SAMPLER, SamplerCase
from mergecore.testing.kinds.side_files import SIDE_FILE, side_file_case
from mergecore.testing.kinds.sources import SOURCE, source_case
from mergecore.testing.kinds.vocabularies import STRATEGY, strategy_case
from mergecore.testing.kinds.writers import WRITER, writer_case
from mergecore.testing.methods.cases import MethodCase
from mergecore.testing.methods.checks import METHOD
from mergecore.types import (
    Architecture,
    Evaluator,
    Executor,
    MergeMethod,
    ModelReference,
    ModelSource,
    MoeFamily,
    OpenOptions,
    OutputWriter,
    Policy,
    Recipe,
    Sampler,
    SideFile,
    TokenizerStrategy,
)

REPORTER_WORD = "reporter"
KINDS = (*WORD_OF.values(), REPORTER_WORD)
"""What the kinds of plugins are called."""


@dataclass(frozen=True)
class Given:
    """What is known for the checks beside the plugins themselves.

    models: references of models to check with, in place of tiny ones; what a source is to open.
    document: one that a recipe accepts, or `evaluator: NAME` or `policy: NAME` with its parameters.
    without: names of properties that are not checked.
    """

    registry: Registry
    models: Sequence[str] = ()
    document: Mapping[str, Any] | None = None
    without: Collection[str] = ()


def findings_of(
    plugin: Plugin,
    registry: Registry,
    *,
    kind: str = "",
    models: Sequence[str] = (),
    document: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
) -> Iterator[Finding]:
    """What is found about everything that a plugin provides, property by property.

    kind: of these things, only those of that kind, such as "merge method".
    models, document, without: as for `Given`.

    Raises:
        ConfigError: E115 for a kind, or a property to leave out, that there is not.
    """
    if kind and kind not in KINDS:
        raise ConfigError(
            "E115",
            f"there is no kind '{kind}'{did_you_mean(kind, KINDS)}",
            hint=f"there are {', '.join(KINDS)}",
        )
    subject = f"plugin '{plugin.name}'"
    if plugin.status == "active" and not plugin.reason:
        yield Finding(subject, "loaded", "it can be used", "passed")
    else:
        yield Finding(subject, "loaded", "it can be used", "failed", plugin.reason or plugin.status)
    given = Given(registry, tuple(models), document, without)
    offered = [(one, value) for one, value in registry.offered(plugin) if kind in ("", WORD_OF[one])]
    for of_kind, value in offered:
        about = replace(given, document=_document_of(value, offered, document))
        yield from _findings(f"{WORD_OF[of_kind]} '{value.name}'", about, of_kind, value)
    hear = registry.reporter(plugin)
    if hear and kind in ("", REPORTER_WORD):
        yield from survey(f"reporter '{plugin.name}'", REPORTER, hear, _known(REPORTER, without))


def _document_of(
    value: object, offered: Sequence[tuple[type, Any]], document: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The document if it is one of that recipe, or of no other."""
    recipes = [one for _, one in offered if isinstance(one, Recipe)]
    of = [one for one in recipes if document is not None and one.accepts(document)]
    return document if not of or value in of else None


def _findings(subject: str, given: Given, kind: type, value: Any) -> Iterator[Finding]:
    properties = PROPERTIES[kind]
    try:
        with _case(given, kind, value) as case:
            yield from survey(subject, properties, case, _known(properties, given.without))
    except NotCheckedError as reason:
        yield Finding(subject, "all", "it keeps what is asked of it", "skipped", str(reason))
    except Exception as error:  # noqa: BLE001 - the plugin, or what is given for it, is somebody else's
        yield Finding(
            subject, "all", "it keeps what is asked of it", "failed", f"it cannot be checked: {told(error)}"
        )


def _known(properties: Sequence[Property[Any]], without: Collection[str]) -> list[str]:
    return [one.name for one in properties if one.name in without]


PROPERTIES: Mapping[type, Sequence[Property[Any]]] = {
    ModelSource: SOURCE,
    Architecture: ARCHITECTURE,
    TokenizerStrategy: STRATEGY,
    MergeMethod: METHOD,
    Recipe: RECIPE,
    MoeFamily: MOE_FAMILY,
    Executor: EXECUTOR,
    OutputWriter: WRITER,
    SideFile: SIDE_FILE,
    Policy: POLICY,
    Evaluator: EVALUATOR,
    Sampler: SAMPLER,
    click.Command: COMMAND,
}
"""What is checked of each kind."""


@contextmanager
def _case(given: Given, kind: type, value: Any) -> Iterator[Any]:
    """The case of a value, which its properties are checked on."""
    with TemporaryDirectory() as folder:
        if kind in _CASES:
            with _CASES[kind](value, given, Path(folder)) as case:
                yield case
        elif kind is MergeMethod:
            yield MethodCase.of(value, None, None)
        elif kind is Sampler:
            yield SamplerCase.of(value)
        else:
            yield CommandCase(value, ())


def _of_source(value: ModelSource, given: Given, folder: Path) -> Any:
    reference: str | None = given.models[0] if given.models else None
    if reference is None:
        plain = tiny_model(folder / "model")
        accepted = value.accepts(ModelReference(str(plain)), OpenOptions(offline=True))
        reference = str(plain) if accepted is True else None
    return source_case(value, reference, None, given.registry)


_CASES: Mapping[type, Callable[[Any, Given, Path], Any]] = {
    ModelSource: _of_source,
    Architecture: lambda value, given, folder: architecture_case(value, given.models, given.registry),
    TokenizerStrategy: lambda value, given, folder: strategy_case(
        value, given.models, None, None, given.registry
    ),
    Recipe: lambda value, given, folder: recipe_case(value, given.document, given.registry),
    MoeFamily: lambda value, given, folder: family_case(value, _first(given), given.registry),
    Executor: lambda value, given, folder: executor_case(value, None, given.registry),
    OutputWriter: lambda value, given, folder: writer_case(value, None, _first(given), given.registry),
    SideFile: lambda value, given, folder: side_file_case(value, None, _first(given), given.registry),
    Policy: lambda value, given, folder: policy_case(
        value, _params_of(value, given, "policy"), None, given.registry
    ),
    Evaluator: lambda value, given, folder: evaluator_case(
        value, _params_of(value, given, "evaluator"), _first(given)
    ),
}


def _params_of(value: Evaluator[Any] | Policy[Any], given: Given, key: str) -> Mapping[str, Any] | None:
    """The parameters of a plugin that a document gives, which names it under a key; None where none does."""
    document = dict(given.document or {})
    return document if document.pop(key, None) == value.name else None


def _first(given: Given) -> str | None:
    return given.models[0] if given.models else None
