"""Each property of what decides and writes outputs is broken by a plugin, and is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kit_faults import breaks, names, only
from tiny import registry

from mergecore import OutputWriter, SideFile, TokenizerStrategy
from mergecore.testing import (
    check_side_file,
    check_tokenizer_strategy,
    check_writer,
)
from mergecore.testing.kinds.side_files import SIDE_FILE
from mergecore.testing.kinds.vocabularies import STRATEGY
from mergecore.testing.kinds.writers import WRITER
from mergecore.types import (
    Codec,
    Layout,
    SideFiles,
    Vocabulary,
)

drawn = random.Random(0)


# ---- tokenizer strategies ---------------------------------------------------------------------------------

UNION = registry().get(TokenizerStrategy, "union")


def built(change: Callable[[Vocabulary, Any], Vocabulary]) -> TokenizerStrategy[Any]:
    def build(request: Any, params: Any) -> Vocabulary:
        return change(UNION.build(request, params), request)

    return replace(UNION, name="odd", build=build)


def spoil(made: Vocabulary, request: Any) -> Vocabulary:
    path = request.models[0].side_files["tokenizer_config.json"]
    path.write_text(path.read_text() + " ")
    return made


def turned(ids: Any) -> dict[str, int]:
    """Every token with the id of the next."""
    first, *others = ids.values()
    return dict(zip(ids, [*others, first], strict=True))


def cyclic(made: Vocabulary, request: Any) -> Vocabulary:
    rows = tuple(None if one is None else (*one[1:], one[0]) for one in made.rows)
    return replace(made, rows=rows)


STRATEGIES: list[tuple[str, TokenizerStrategy[Any], str]] = [
    ("build", built(lambda made, request: replace(made, files={})), "the vocabulary has no files"),
    (
        "same",
        built(lambda made, request: replace(made, warnings=(str(drawn.random()),))),
        "built twice, the vocabulary is another one",
    ),
    ("inputs", built(spoil), "it changes the models or their files"),
    (
        "files",
        built(lambda made, request: replace(made, files={**made.files, "../x": b""})),
        "'../x' leads out of the folder",
    ),
    (
        "ids",
        built(lambda made, request: replace(made, ids={**made.ids, "<new>": 0})),
        "two tokens of `ids` have one id",
    ),
    (
        "rows",
        built(lambda made, request: replace(made, rows=made.rows[:1])),
        "`rows` has 1 entries for 2 models",
    ),
    ("tokens", built(cyclic), "gets row 1 of"),
    (
        "merge",
        built(
            lambda made, request: replace(
                made, ids=dict(zip(made.ids, [*list(made.ids.values())[1:], 0], strict=True))
            )
        ),
        "`ids` and the files disagree about 38 tokens",
    ),
]


@pytest.mark.parametrize(("name", "odd", "text"), STRATEGIES, ids=[name for name, *_ in STRATEGIES])
def test_a_fault_of_a_strategy_is_named(name: str, odd: TokenizerStrategy[Any], text: str) -> None:
    breaks(check_tokenizer_strategy, text, odd, without=only(STRATEGY, name))


def test_every_property_of_strategies_is_broken() -> None:
    assert {name for name, *_ in STRATEGIES} == names(STRATEGY)


# ---- writers ----------------------------------------------------------------------------------------------

SAFETENSORS = registry().get(OutputWriter, "safetensors")


def laid_out(change: Callable[[Layout], Layout]) -> OutputWriter[Any]:
    def layout(request: Any, params: Any) -> Layout:
        return change(SAFETENSORS.layout(request, params))

    return replace(SAFETENSORS, name="odd", layout=layout)


def moved(made: Layout, by: int) -> Layout:
    return replace(
        made, slots={name: replace(one, offset=one.offset + by) for name, one in made.slots.items()}
    )


def first_lost(made: Layout) -> Layout:
    return replace(made, slots=dict(list(made.slots.items())[1:]))


def together(made: Layout) -> Layout:
    start = min(one.offset for one in made.slots.values())
    return replace(made, slots={name: replace(one, offset=start) for name, one in made.slots.items()})


def renamed(made: Layout, name: str) -> Layout:
    return replace(made, files=tuple(replace(one, name=name) for one in made.files))


def neighbours(numbers: Any) -> bytes:
    found: bytes = (numbers + numbers.mean()).astype("<f2").tobytes()
    return found


WRITERS: list[tuple[str, OutputWriter[Any], str]] = [
    ("places", laid_out(first_lost), "has no place in `slots`"),
    ("sizes", laid_out(lambda made: moved(made, 9)), "does not lie between the"),
    ("apart", laid_out(together), "overlap in model.safetensors"),
    ("files", laid_out(lambda made: renamed(made, "../x")), "leads out of the folder"),
    ("same", laid_out(lambda made: renamed(made, f"x{drawn.random()}")), "laid out twice"),
    (
        "blocks",
        replace(
            SAFETENSORS,
            codecs={"half": Codec(block_elements=32, block_bytes=64, encode=neighbours, largest=100.0)},
        ),
        "a block must not depend on its neighbours",
    ),
    ("write", laid_out(together), "raises PluginError"),
    ("verify", laid_out(first_lost), "raises PluginError"),
    ("read", replace(SAFETENSORS, name="odd", read=lambda path: []), "is absent in the header"),
    (
        "threads",
        laid_out(lambda made: renamed(made, f"x{drawn.random()}.safetensors")),
        "with 4 threads, other bytes",
    ),
]


@pytest.mark.parametrize(("name", "odd", "text"), WRITERS, ids=[name for name, *_ in WRITERS])
def test_a_fault_of_a_writer_is_named(name: str, odd: OutputWriter[Any], text: str) -> None:
    breaks(check_writer, text, odd, without=only(WRITER, name))


def test_every_property_of_writers_is_broken() -> None:
    assert {name for name, *_ in WRITERS} == names(WRITER)


# ---- side files -------------------------------------------------------------------------------------------


def made(function: Callable[[Any], dict[str, Any]]) -> SideFile[Any]:
    return SideFile(name="odd", make=lambda request, params: SideFiles(function(request)))


def add_to_the_document(request: Any) -> dict[str, bytes]:
    request.document["more"] = 1
    return {}


SIDE_FILES: list[tuple[str, SideFile[Any], str]] = [
    ("files", made(lambda request: {"config.json": b"{}"}), "it makes config.json"),
    ("same", made(lambda request: {"x": str(drawn.random()).encode()}), "made twice, the files differ"),
    (
        "paths",
        made(lambda request: {"x": str(request.models[0].folder).encode()}),
        "holds a path of this machine",
    ),
    ("request", made(add_to_the_document), "it changes the request"),
    ("merge", made(lambda request: {"model.safetensors": b"x"}), "would replace a file of the merged model"),
]


@pytest.mark.parametrize(("name", "odd", "text"), SIDE_FILES, ids=[name for name, *_ in SIDE_FILES])
def test_a_fault_of_a_side_file_is_named(name: str, odd: SideFile[Any], text: str) -> None:
    breaks(check_side_file, text, odd, without=only(SIDE_FILE, name))


def test_every_property_of_side_files_is_broken() -> None:
    check_side_file(made(lambda request: {"names.txt": "\n".join(request.names).encode()}))
    assert {name for name, *_ in SIDE_FILES} == names(SIDE_FILE)
