"""The modules of a model of several stacks, by the tree that its tensor names make; read `modules_of`.

A part of the tree with one stack is a module, and so is all that sees or hears, and what lies between such parts and
the text, as a projector does.  What is left, such as a head, belongs to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mergecore.types import Stack
from mergecore_architectures.roles import modality

Roots = tuple[str, ...]
"""Parts of the tree that are one module: prefixes of names, all but the whole tree ending in a dot."""


@dataclass(frozen=True)
class FoundModule:
    """A module: its name, the parts of the tree it is, its layers, and what other tools call it."""

    name: str
    roots: Roots
    stack: Stack | None
    aliases: tuple[str, ...] = ()


def modules_of(
    names: Iterable[str], stacks: Sequence[Stack], main: Stack | None
) -> tuple[list[FoundModule], dict[str, str]]:
    """The modules in order, and the module of each tensor; nothing where there is a single one."""
    tree = _Tree(list(names), stacks)
    everything = list(tree.roots(""))
    home = next((roots for roots in everything if main and tree.holds(roots, main)), None)
    home = home or next((roots for roots in everything if tree.stacks_of(roots)), ("",))
    kept = [roots for roots in everything if roots == home or tree.is_module(roots)]
    if sum(bool(tree.stacks_of(roots)) for roots in kept) < 2:
        return [], {}
    titles = _titles(kept)
    parts = [
        FoundModule(titles[roots], roots, stack, tuple(one for one in aliases if one != titles[roots]))
        for roots in kept
        for stack in [tree.stack_of(roots, main)]
        for aliases in [_aliases(roots, stack, main, kept, tree)]
    ]
    return parts, {name: titles[_owner(name, kept, home)] for name in tree.names}


@dataclass(frozen=True)
class _Tree:
    names: Sequence[str]
    stacks: Sequence[Stack]

    def roots(self, node: str) -> Iterator[Roots]:
        """The modules at and below a node, in order."""
        children = self._children(node)
        inside = [stack for stack in self.stacks if stack.prefix.startswith(node)]
        own = any(stack.prefix == node for stack in inside)
        if len(inside) > 1 and not own and (not node or _kind(node) is None):
            for child in children:
                yield from self.roots(child)
            return
        yield (node,)
        if inside and (between := tuple(child for child in children if _is_between(child))):
            yield between

    def holds(self, roots: Roots, stack: Stack) -> bool:
        """Whether a stack is in a module."""
        return stack in self.stacks_of(roots)

    def stacks_of(self, roots: Roots) -> list[Stack]:
        """The stacks in a module, those between it and others left out."""
        found = [stack for stack in self.stacks if stack.prefix.startswith(roots)]
        if any(_is_between(root) for root in roots):
            return []
        return [stack for stack in found if not any(map(_is_between, _steps(stack.prefix)))]

    def stack_of(self, roots: Roots, main: Stack | None) -> Stack | None:
        """The layers of a module, where it is clear which ones these are."""
        found = self.stacks_of(roots)
        return main if main in found else found[0] if len(found) == 1 else None

    def is_module(self, roots: Roots) -> bool:
        """Whether parts of the tree are more than a tensor or two of the text."""
        last = _last(roots[0])
        return (
            bool(self.stacks_of(roots))
            or _is_between(roots[0])
            or last == "shared"
            or _kind(last) is not None
        )

    def _children(self, node: str) -> list[str]:
        inside = (name.removeprefix(node) for name in self.names if name.startswith(node))
        return list(dict.fromkeys(node + name.split(".")[0] + "." for name in inside))


_BETWEEN = re.compile(r"(\w+_)?(merger|projector|connector|aligner|adapter|resampler)(_list)?|mm_\w+")
"""Names of what brings the output of one stack into the space of another."""


def _is_between(root: str) -> bool:
    return bool(_BETWEEN.fullmatch(_last(root)))


def _last(root: str) -> str:
    """The last word of a part of the tree."""
    return root.rstrip(".").rpartition(".")[2]


def _kind(root: str) -> str | None:
    """What a part of the tree deals with, if not with text."""
    kind = modality(_last(root))
    return None if kind == "extra" else kind


def _steps(prefix: str) -> Iterator[str]:
    """The parts of the tree on the way to a stack."""
    words = prefix.rstrip(".").split(".")
    yield from (".".join(words[: i + 1]) for i in range(len(words)))


def _owner(name: str, kept: Sequence[Roots], home: Roots) -> Roots:
    """The longest part of the tree that holds a tensor, otherwise the one that makes text."""
    found = [(len(root), roots) for roots in kept for root in roots if name.startswith(root)]
    return max(found, key=lambda pair: pair[0], default=(0, home))[1]


def _titles(kept: Sequence[Roots]) -> dict[Roots, str]:
    """The last words of each part of the tree that tell it from the others."""
    titles = {}
    for roots in kept:
        words = roots[0].rstrip(".").split(".")
        for count in range(1, len(words) + 1):
            title = ".".join(words[-count:])
            if not any(f".{other[0]}".endswith(f".{title}.") for other in kept if other != roots):
                break
        titles[roots] = title
    return titles


def _aliases(
    roots: Roots, stack: Stack | None, main: Stack | None, kept: Sequence[Roots], tree: _Tree
) -> list[str]:
    """The names that a module has elsewhere, and those of its layers."""
    found = []
    if main and stack == main:
        found.append("text_decoder")
    seeing = [one for one in kept if tree.stacks_of(one) and _kind(one[0]) == "vision"]
    if seeing == [roots]:
        found += ["vision_tower", "vision_model"]
    if [one for one in kept if _is_between(one[0])] == [roots]:
        found.append("multi_modal_projector")
    return [*found, *([stack.prefix.rstrip(".")] if stack else [])]
