"""Which modules are meant by names, patterns and roles; read `Selector`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from mergecore.errors import ConfigError, did_you_mean
from mergecore_plugins.lora.extract_lora.pairs import Pair


def fits(text: str, name: str, role: str = "") -> bool:
    """Whether a module of that name is meant: by its whole name or the end of it, a pattern, or its role."""
    if any(mark in text for mark in "*?["):
        return fnmatchcase(name, text) or fnmatchcase(name, f"*.{text}")
    return f".{name}".endswith(f".{text}") or role == text or role.startswith(f"{text}.")


class Selector:
    """What is taken of a model."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include, self._exclude = include, exclude

    def takes(self, pair: Pair) -> bool:
        """Whether a tensor is taken, by its own name or that of its module."""
        if any(_means(text, pair) for text in self._exclude):
            return False
        return not self._include or any(_means(text, pair) for text in self._include)


def _means(text: str, pair: Pair) -> bool:
    return fits(text, pair.module, pair.role) or fits(text, pair.name)


def faults(texts: Iterable[tuple[str, str]], pairs: Iterable[Pair]) -> Iterator[ConfigError]:
    """An error for each text that means no module; texts come with the key that has them."""
    known = [(one.module, one.role) for one in pairs] + [(one.name, one.role) for one in pairs]
    names = {name for name, _ in known} | {role for _, role in known if role}
    names |= {name.rpartition(".")[2] for name in names}
    for key, text in texts:
        if not any(fits(text, name, role) for name, role in known):
            near = did_you_mean(text, sorted(names))
            what = f"'{key}': no module of the fine-tune is called '{text}', or has that role{near}"
            yield ConfigError(
                "E105", what, hint="names are matched from their end; *, ? and [] make a pattern"
            )
