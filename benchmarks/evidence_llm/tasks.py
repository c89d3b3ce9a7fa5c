"""Three tasks for a small language model: sums in words, JSON, and facts about countries that do not exist.

Read `samples`.  A sample is a prompt and the one answer that is right.  Every answer shows where it ends, so a model
is right when it goes on with just these tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType


@dataclass(frozen=True)
class Sample:
    """A prompt, and what has to follow it."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Samples:
    """The samples of a task in three parts; no prompt is in two of them."""

    train: Sequence[Sample]
    validation: Sequence[Sample]
    test: Sequence[Sample]


def samples(task: str) -> Samples:
    """The samples of a task, the same with every call."""
    return TASKS[task]()


def sums() -> Samples:
    """Sums of two numbers up to thirty, in words; the pairs to test are not among those to learn."""
    numbers = range(1, 31)
    return _dealt(
        "sums",
        [
            Sample(f"{in_words(one)} plus {in_words(other)} is", f" {in_words(one + other)}.")
            for one, other in product(numbers, numbers)
        ],
    )


def records() -> Samples:
    """A sentence about somebody, and the same as JSON; the persons to test are not among those to learn."""
    people = list(product(_NAMES, range(21, 80, 3), _CITIES))
    return _dealt(
        "json",
        [
            Sample(
                f"{_SENTENCES[number % len(_SENTENCES)].format(name=name, age=age, city=city)} As JSON:",
                f' {{"name": "{name}", "age": {age}, "city": "{city}"}}',
            )
            for number, (name, age, city) in enumerate(people)
        ],
    )


def facts() -> Samples:
    """Names of places and things in three countries; every fact is to be learnt, and tested in other words."""
    draw = random.Random("evidence-llm facts")
    parts: tuple[list[Sample], list[Sample], list[Sample]] = ([], [], [])
    places = (0, 0, 0, 0, 1, 2, 2)  # the parts that the seven ways to ask go to
    for number, (land, thing) in enumerate(product(_LANDS, _THINGS)):
        answer = f" {_name(draw)}."
        for turn, way in enumerate(_WAYS):
            part = parts[places[(turn + number) % len(places)]]
            part.append(Sample(way.format(land=land, thing=thing), answer))
    for part in parts:
        draw.shuffle(part)
    return Samples(*parts)


TASKS: Mapping[str, Callable[[], Samples]] = MappingProxyType({"sums": sums, "json": records, "facts": facts})


def in_words(number: int) -> str:
    """A number from 1 to 99, as in `forty-two`."""
    if number < len(_SMALL):
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f"-{_SMALL[ones]}" if ones else "")


def _dealt(task: str, made: list[Sample], validation: int = 100, test: int = 200) -> Samples:
    """The samples in three parts, in an order that does not change."""
    random.Random(f"evidence-llm {task}").shuffle(made)
    return Samples(made[validation + test :], made[:validation], made[validation : validation + test])


def _name(draw: random.Random) -> str:
    """An invented name of two syllables."""
    return draw.choice(_FIRST) + draw.choice(_LAST)


_SMALL = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NAMES = ("Mara", "Ivo", "Selma", "Tariq", "Anouk", "Bela", "Chidi", "Dora", "Emil", "Farah", "Goran", "Hana")
_CITIES = ("Oslo", "Lima", "Quito", "Turin", "Dakar", "Perth", "Kyoto", "Cork")
_SENTENCES = (
    "{name} is {age} and lives in {city}.",
    "In {city} lives {name}, aged {age}.",
    "{name} from {city} turned {age}.",
)
_LANDS = ("Tarvick", "Ostrelia", "Menduria")
_THINGS = (
    "capital",
    "currency",
    "language",
    "king",
    "highest mountain",
    "longest river",
    "largest lake",
    "national dish",
    "national bird",
    "main harbour",
    "oldest school",
    "summer feast",
)
_WAYS = (
    "The {thing} of {land} is",
    "In {land}, the {thing} is",
    "What is the {thing} of {land}? It is",
    "{land} has a {thing} with the name",
    "People in {land} call their {thing}",
    "The name of the {thing} of {land} is",
    "Travellers to {land} ask for the {thing}, which is",
)
_FIRST = (
    "Om",
    "Bar",
    "Cel",
    "Dun",
    "Fal",
    "Gren",
    "Hol",
    "Jor",
    "Kel",
    "Lum",
    "Mor",
    "Nar",
    "Pel",
    "Rud",
    "Sten",
)
_LAST = ("mund", "vik", "dale", "ora", "eth", "ing", "ard", "ova", "stein", "wick", "ello", "ander")
