"""The hooks a plugin may implement, in the order a merge calls them.

All but the last collect: they take nothing and yield values of one type.  The last one notifies.  There is
no third kind.  A built-in plugin keeps its names; two others that yield one name block each other.  Configs say
`NAME@DISTRIBUTION` to choose one of several.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from mergecore.types import (
        Architecture,
        Evaluator,
        Executor,
        MergeMethod,
        ModelSource,
        MoeFamily,
        OutputWriter,
        Policy,
        Recipe,
        Sampler,
        SideFile,
        TokenizerStrategy,
    )
    from mergecore.types.events import Event

hookspec = pluggy.HookspecMarker("mergecore")


@hookspec
def mergecore_model_sources() -> Iterable[ModelSource]:
    """Yield ways to open a model reference: a local folder, a hub id, an adapter on a base."""
    return ()


@hookspec
def mergecore_architectures() -> Iterable[Architecture]:
    """Yield describers: which tensors are layers of which stack, embeddings, heads, tied, experts?"""
    return ()


@hookspec
def mergecore_tokenizer_strategies() -> Iterable[TokenizerStrategy[Any]]:
    """Yield ways to choose the output vocabulary."""
    return ()


@hookspec
def mergecore_merge_methods() -> Iterable[MergeMethod[Any]]:
    """Yield merge methods.

    ::

        @hookimpl
        def mergecore_merge_methods():
            yield MergeMethod(name="midpoint", merge=midpoint, params=MidpointParams, models=(2, 2))
    """
    return ()


@hookspec
def mergecore_recipes() -> Iterable[Recipe]:
    """Yield kinds of documents, other than merge configs, that compile to a plan."""
    return ()


@hookspec
def mergecore_moe_families() -> Iterable[MoeFamily]:
    """Yield architectures with experts that the recipe `moe` can make dense models into."""
    return ()


@hookspec
def mergecore_executors() -> Iterable[Executor[Any]]:
    """Yield ways to run the steps of a plan."""
    return ()


@hookspec
def mergecore_output_writers() -> Iterable[OutputWriter[Any]]:
    """Yield file formats for the merged model."""
    return ()


@hookspec
def mergecore_side_files() -> Iterable[SideFile[Any]]:
    """Yield files that lie beside the weights: a model card, a chat template, licences."""
    return ()


@hookspec
def mergecore_policies() -> Iterable[Policy[Any]]:
    """Yield ways to choose numbers of a merge config from its models, such as weights by their norms."""
    return ()


@hookspec
def mergecore_evaluators() -> Iterable[Evaluator[Any]]:
    """Yield ways to say how good a model is: perplexity, shares of right answers."""
    return ()


@hookspec
def mergecore_samplers() -> Iterable[Sampler[Any]]:
    """Yield ways to choose what a search tries next."""
    return ()


@hookspec
def mergecore_commands() -> Iterable[click.Command]:
    """Yield subcommands of `mergecore`."""
    return ()


@hookspec
def mergecore_report(event: Event) -> None:
    """Hear what a merge is doing.  A reporter that raises is reported once and then no longer called."""
