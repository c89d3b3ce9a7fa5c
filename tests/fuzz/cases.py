"""Random merges: models, a config, and how to run it, all from the seed and the number of the run.

Read `case`, then one of the three kinds: tensors of any shape, layers of a Llama, vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzz import drawing, drawn_vocabularies
from fuzz.drawn_settings import Places, fill
from fuzz.models import Model, llama_config, llama_shapes, model
from fuzz.reference.arrays import Array
from fuzz.reference.configs import is_merged
from fuzz.reference.methods import METHODS

Random = drawing.Random
Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Case:
    """One merge."""

    method: str
    kind: str
    models: dict[str, Model]
    """By the reference that the config uses."""
    config: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    """Threads, shards of the output, and whether the command line is used."""


def case(seed: int, number: int, method: str | None = None) -> Case:
    """The merge of that number."""
    random = np.random.default_rng([seed, number])
    names = list(METHODS)
    chosen = method or names[number % len(names)]
    kind: Callable[[Random, str], Case] = drawing.pick(random, (_tensors, _tensors, _models, _slices, _words))
    made = kind(random, chosen)
    made.config |= _options(random)
    for one in made.models.values():
        one.shards = int(random.integers(1, 4))
    made.run = {
        "threads": int(random.integers(1, 4)),
        "shard_size": drawing.pick(random, (None, None, "1KB", "100KB", "2MB")),
        "max_memory": drawing.pick(random, (None, None, "2GB")),
        "command_line": bool(random.random() < 0.3),
    }
    return made


def _options(random: Random) -> dict[str, Any]:
    """Seed and formats."""
    formats = ("float64", "float32", "bfloat16", "float16", "float32", "bfloat16")
    said: dict[str, Any] = {}
    if random.random() < 0.5:
        said["seed"] = int(random.integers(0, 1000))
    if random.random() < 0.5:
        said["dtype"] = drawing.pick(random, formats)
    if random.random() < 0.2:
        said["out_dtype"] = drawing.pick(random, formats)
    if random.random() < 0.3:
        said["keep_f32"] = bool(random.integers(2))
    return said


def _numbers(random: Random, shapes: Shapes, count: int) -> list[dict[str, Array]]:
    """Tensors of a base and of models that differ from it."""
    spread = drawing.pick(random, (0.5, 0.02, 0.001))
    base = {name: drawing.origin(random, shape) for name, shape in shapes.items()}
    changed = [
        {name: one + drawing.change(random, one.shape, spread) for name, one in base.items()}
        for _ in range(count - 1)
    ]
    return [base, *changed]


def _formats(random: Random, names: Sequence[str], count: int) -> list[dict[str, str]]:
    """Of each model the format of each tensor: one for all, one for each model, or any."""
    mixed = drawing.pick(random, ("same", "same", "models", "tensors", "any"))
    one = str(drawing.pick(random, drawing.FORMATS))
    each = [str(drawing.pick(random, drawing.FORMATS)) for _ in range(count)]
    found = []
    for at in range(count):
        own = each[at] if mixed == "models" else one
        found.append(dict.fromkeys(names, own))
    if mixed == "tensors":
        drawn = {name: str(drawing.pick(random, drawing.FORMATS)) for name in names}
        return [dict(drawn) for _ in range(count)]
    if mixed == "any":
        return [{name: str(drawing.pick(random, drawing.FORMATS)) for name in names} for _ in range(count)]
    return found


def _drawn(
    random: Random, shapes: Sequence[Shapes], config: Callable[[int], dict[str, Any]]
) -> dict[str, Model]:
    """A model for each of `shapes`; those have the same tensors, or some of the first's and more."""
    everything: dict[str, tuple[int, ...]] = {}
    for one in shapes:
        everything |= one
    numbers = _numbers(random, everything, len(shapes))
    formats = _formats(random, list(everything), len(shapes))
    made = {}
    for at, own in enumerate(shapes):
        tensors = {name: numbers[at][name] for name in own}
        kinds = {name: formats[at][name] for name in own}
        made[f"./m{at}"] = model(f"m{at}", tensors, kinds, config(at))
    return made


def _count(random: Random, method: str) -> int:
    """How many models to draw, the base included."""
    known = METHODS[method]
    with_base = known.base in ("delta", "first") or (known.base == "perhaps" and random.random() < 0.5)
    return int(random.integers(known.fewest, known.most + 1)) + with_base


def _listing(random: Random, method: str, models: dict[str, Model]) -> dict[str, Any]:
    """`base_model` and `models` for these; what is the base may be listed too."""
    known, names = METHODS[method], list(models)
    config: dict[str, Any] = {"merge_method": method}
    if known.base == "primary":
        if random.random() < 0.3:
            config["base_model"] = drawing.pick(random, names)
        listed = names
    elif known.base == "perhaps" and len(names) <= drawing.pick(random, (known.fewest, known.most)):
        listed = names  # without a base
    else:
        config["base_model"] = names[0]
        listed = names[1:]
        if random.random() < 0.3:
            listed = [str(one) for one in random.permutation(names)]
    config["models"] = [{"model": one} for one in listed]
    return config


def _set(random: Random, method: str, config: dict[str, Any], names: Sequence[str], roles: bool) -> None:
    """Give a config with `models` its parameters, and perhaps what to leave out."""
    inside = list(config["models"])
    for one in inside:
        one["parameters"] = {}
    if METHODS[method].base in ("delta", "perhaps"):
        inside = [one for one in inside if one["model"] != config.get("base_model")]
    places = Places([one["parameters"] for one in inside], [], {})
    fill(random, method, len(inside), places, names, roles)
    config["parameters"] = places.top
    if "scope" in METHODS[method].parameters and random.random() < 0.4:
        _whole_model(random, places)
    if random.random() < 0.2:
        key = drawing.pick(random, ("include", "exclude"))
        name = drawing.pick(random, names)
        config[key] = drawing.pick(random, (name, [name, f"glob:*{name[-4:]}"]))
        if not any(is_merged(config, one) for one in names):
            del config[key]  # a plan refuses to merge nothing


def _whole_model(random: Random, places: Places) -> None:
    """Select in the whole model: with one density and one gamma for each."""
    places.top["scope"] = "model"
    for name in ("density", "gamma"):
        for one in (*places.models, places.top):
            if name in one:
                one[name] = drawing.number(random, METHODS["breadcrumbs"].parameters[name])


def _tensors(random: Random, method: str) -> Case:
    """Tensors of any shape."""
    names = ("alpha.weight", "beta.bias", "gate", "deep.conv.weight", "deep.scale", "omega.weight")
    large = random.random() < 0.06
    count = int(random.integers(1, len(names) + 1))
    shapes = {name: drawing.shape(random, large) for name in names[:count]}
    models = _drawn(random, [shapes] * _count(random, method), lambda at: {"model_type": "strange"})
    config = _listing(random, method, models)
    _set(random, method, config, list(shapes), roles=False)
    return Case(method, "tensors", models, config)


def _models(random: Random, method: str) -> Case:
    """Whole Llamas."""
    layers, tied = int(random.integers(1, 5)), bool(random.random() < 0.3)
    shapes = llama_shapes(layers, tied, 6)
    models = _drawn(random, [shapes] * _count(random, method), lambda at: llama_config(layers, tied, 6))
    config = _listing(random, method, models)
    _set(random, method, config, list(shapes), roles=True)
    return Case(method, "models", models, config)


def _slices(random: Random, method: str) -> Case:
    """Layers of Llamas, stacked and merged."""
    known, tied = METHODS[method], bool(random.random() < 0.3)
    count = max(2, _count(random, method))
    depths = [int(random.integers(2, 5)) for _ in range(count)]
    shapes = [llama_shapes(depth, tied, 6) for depth in depths]
    models = _drawn(random, shapes, lambda at: llama_config(depths[at], tied, 6))
    names = list(models)
    config: dict[str, Any] = {"merge_method": method}
    width = 1 if method == "passthrough" else count
    if known.base in ("delta", "first") or (known.base == "perhaps" and width > known.fewest):
        config["base_model"] = names[0]
        width = min(width, known.most + 1)
    else:
        width = min(width, known.most)
    inside = names[:width] if "base_model" in config else None
    cut = [_slice(random, inside or names, width, dict(zip(names, depths, strict=True))) for _ in range(3)]
    config["slices"] = cut[: int(random.integers(1, 4))]
    places = _places(config, known.base)
    merged = width - (METHODS[method].base in ("delta", "perhaps") and "base_model" in config)
    fill(random, method, merged, places, list(shapes[0]), roles=True)
    config["parameters"] = places.top
    used = {source["model"] for one in config["slices"] for source in one["sources"]}
    return Case(method, "slices", {name: one for name, one in models.items() if name in used}, config)


def _slice(random: Random, names: Sequence[str], width: int, depths: Mapping[str, int]) -> dict[str, Any]:
    """A slice of as many layers of each source."""
    chosen = [str(one) for one in random.permutation(list(names))[:width]]
    length = int(random.integers(1, min(depths[one] for one in chosen) + 1))
    sources = []
    for one in chosen:
        begin = int(random.integers(0, depths[one] - length + 1))
        sources.append({"model": one, "layer_range": [begin, begin + length], "parameters": {}})
    return {"sources": sources, "parameters": {}}


def _places(config: dict[str, Any], base: str) -> Places:
    """Where a config with slices may set parameters."""
    sources = [source for one in config["slices"] for source in one["sources"]]
    if base in ("delta", "perhaps"):
        sources = [one for one in sources if one["model"] != config.get("base_model")]
    return Places([one["parameters"] for one in sources], [one["parameters"] for one in config["slices"]], {})


def _words(random: Random, method: str) -> Case:
    """Llamas with vocabularies, alike or not."""
    count, tied = _count(random, method), bool(random.random() < 0.3)
    alike = random.random() < 0.25
    first = drawn_vocabularies.draw(random, None)
    tokens = [first, *(first if alike else drawn_vocabularies.draw(random, first) for _ in range(count - 1))]
    padding = [int(random.integers(0, 4)) for _ in tokens]
    rows = [len(own) + (padding[0] if alike else more) for own, more in zip(tokens, padding, strict=True)]
    shapes = llama_shapes(1, tied, max(rows))
    models = _drawn(random, [shapes] * count, lambda at: llama_config(1, tied, rows[at]))
    for own, height, one in zip(tokens, rows, models.values(), strict=True):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if name in one.tensors:
                one.tensors[name] = one.tensors[name][:height]
        one.files = {
            "tokenizer.json": drawn_vocabularies.tokenizer(own),
            "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"},
        }
    config = _listing(random, method, models)
    _set(random, method, config, list(shapes), roles=True)
    config.pop("include", None)
    config.pop("exclude", None)
    if not alike or random.random() < 0.3:
        by_name = dict(zip(models, tokens, strict=True))
        primary = config.get("base_model") or config["models"][0]["model"]
        order = [primary, *(one for one in models if one != primary)]
        config |= drawn_vocabularies.section(random, order, by_name)
    return Case(method, "words", models, config)
