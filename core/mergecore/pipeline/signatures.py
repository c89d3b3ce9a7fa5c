"""Signature and docstring of the function that a merge method is in Python; read `signature_of`."""

from __future__ import annotations

import inspect
import keyword
import textwrap
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mergecore.config.parameters.declared import Parameter, describe_params, parameters_of
from mergecore.plugins.words import needs, summary_of
from mergecore.types import MergeMethod
from mergecore.types.execution import RunOptions

RESERVED = frozenset({"models", "base", "dtype", "seed", "name", "run_options"})
"""Arguments that all functions have, whatever the parameters of their methods are."""


class Written(str):
    """A type as a stub writes it, which is shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


MODELS, BASE = Written("Sequence[Array] | Sequence[StateDict]"), Written("Array | StateDict")
RESULT = Written("Array | dict[str, Array]")


def arguments_of(method: MergeMethod[Any]) -> dict[str, str]:
    """The parameters of a method, as configs write them, by what they are called as arguments.

    `lambda` is a word of Python: such a parameter has the name of its field.  One that an argument of all functions
    has already, or that is still no name, ends in an underscore.
    """
    return {argument_of(one): key for key, one in parameters_of(method.params).items()}


def argument_of(parameter: Parameter) -> str:
    """What a parameter is called as an argument."""
    name = parameter.name if _is_name(parameter.name) else parameter.field
    return f"{name}_" if name in RESERVED or not _is_name(name) else name


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def signature_of(method: MergeMethod[Any]) -> inspect.Signature:
    """The arguments of the function: models, base, parameters, and what all functions have."""
    return inspect.Signature(list(_arguments(method)), return_annotation=RESULT)


def _arguments(method: MergeMethod[Any]) -> Iterator[inspect.Parameter]:
    def named(name: str, annotation: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)

    yield inspect.Parameter("models", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=MODELS)
    if method.base == "required":
        yield named("base", BASE)
    elif method.base == "optional":
        yield named("base", Written(f"{BASE} | None"), None)
    rows = parameters_of(method.params).values()
    for one in sorted(rows, key=lambda one: not one.required):
        default = inspect.Parameter.empty if one.required else one.default
        yield named(argument_of(one), annotation_of(one), default)
    yield named("dtype", Written("str | torch.dtype | None"), None)
    yield named("seed", int, 0)
    yield named("name", str, "tensor")
    yield named("run_options", Written(f"{RunOptions.__name__} | None"), None)


def annotation_of(parameter: Parameter) -> Written:
    """The type of an argument, as a stub would write it."""
    members = list(dict.fromkeys(_members(parameter.type)))
    one = " | ".join(members)
    if not parameter.per_model:
        return Written(one)
    ends = " | None" if "None" in members else ""  # where readers and linters expect it
    return Written(f"{one.removesuffix(ends)} | Sequence[{one}]{ends}")


def _members(hint: object) -> Iterator[str]:
    if get_origin(hint) is Annotated:
        yield from _members(get_args(hint)[0])
    elif get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _members(part)
    elif get_origin(hint) is Literal:
        yield f"Literal[{', '.join(repr(one) for one in get_args(hint))}]"
    elif hint is type(None):
        yield "None"
    else:
        yield hint.__name__ if hint in (bool, int, float, str) else "object"


# ---- words -------------------------------------------------------------------------------------------------


def doc_of(method: MergeMethod[Any]) -> str:
    """What the method does, computes and takes."""
    title = summary_of(method)
    facts = [("Formula", method.formula), ("Source", method.paper or ""), ("Needs", needs(method))]
    told = [f"{label}: {text}" for label, text in facts if text]
    return "\n".join(
        [
            *textwrap.wrap(f"{title[:1].upper()}{title[1:]}", 76),
            "",
            *_wrapped(told),
            "",
            *_wrapped(_arguments_in_words(method)),
        ]
    )


def _arguments_in_words(method: MergeMethod[Any]) -> Iterator[str]:
    yield (
        "models: tensors of one shape, of torch or numpy; or state dicts, or modules, whose tensors are merged by "
        "their names. The result is of the same kind, on the same device. Nothing is changed or copied."
    )
    if method.base != "unused":
        yield "base: what the others are merged on, of the same kind."
    rows = zip(parameters_of(method.params).values(), describe_params(method.params), strict=True)
    for one, row in rows:
        interval = f" in {row.range}" if row.range else ""
        many = ", or one for each model" if one.per_model else ""
        called = "" if argument_of(one) == row.name else f", called '{row.name}' in configs"
        text = f"{argument_of(one)}: {row.type}{interval}{many}{called}."
        yield f"{text} {row.help[:1].upper()}{row.help[1:]}{'.' if row.help else ''}".strip()
    yield "dtype: that of the result; by default one that holds the values of all inputs."
    yield "seed: what random numbers depend on, with the name of each tensor."
    yield "name: what a single tensor is called, in messages and by random numbers."
    yield "run_options: threads, memory and the like."


def _wrapped(lines: Sequence[str] | Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, 76, subsequent_indent="    ", break_long_words=False)
