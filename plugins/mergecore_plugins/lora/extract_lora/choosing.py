"""What becomes of each tensor: factored, stored whole, or left out; read `choose`.

PEFT decides what can be had: what it calls `modules_to_save` are whole modules with everything in them, found by the
end of their names, and a factored module must not lie in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mergecore.errors import Collector, ConfigError, InputError, some
from mergecore.files import DTYPES
from mergecore.types import Json, LoadedModule
from mergecore_plugins.lora.extract_lora.pairs import Pair, Pairs
from mergecore_plugins.lora.extract_lora.selecting import Selector, faults, fits
from mergecore_plugins.lora.extract_lora.settings import Extraction
from mergecore_plugins.lora.making.kinds import FactorKind


@dataclass(frozen=True)
class Layer:
    """A weight that is factored."""

    pair: Pair
    kind: FactorKind
    rank: int
    turned: bool = False
    depth: int = 0
    """How many further parameters of its module are factored after it, each wrapped around the ones before."""
    tied: tuple[str, ...] = ()
    """Further modules that have the same weight, such as the head."""

    @property
    def target(self) -> str:
        """What PEFT looks its rank up by."""
        return self.pair.name if self.kind == "experts" else self.pair.module


@dataclass(frozen=True)
class Choice:
    """What becomes of every tensor of the fine-tune."""

    layers: tuple[Layer, ...]
    saved: Mapping[str, tuple[Pair, ...]]
    """Modules that are stored whole, with all that is in them."""
    biases: tuple[Pair, ...]
    """What is stored by its own name: biases of factored modules, and what containers of others have of their own."""
    left: tuple[tuple[Pair, str], ...]
    """What is left out, and why."""
    notes: tuple[str, ...] = field(default=())

    @property
    def has_bias_layers(self) -> bool:
        """Whether PEFT can add the changes of biases itself, `lora_bias`: all factored layers must be so."""
        biased = {one.module for one in self.biases if one.name.endswith(".bias")}
        able = all(
            one.kind in ("linear", "transposed", "convolution") and not one.tied for one in self.layers
        )
        return (
            bool(biased)
            and able
            and len(biased) == len(self.biases)
            and biased == {one.pair.module for one in self.layers}
        )


def choose(asked: Extraction, found: Pairs) -> Choice:
    """What becomes of every tensor.

    Raises:
        ConfigError: E105 for names that mean nothing, and where nothing is left to factor.
        InputError: E233 for a weight in a format that cannot be factored.
    """
    problems = Collector()
    texts = [(key, text) for key in ("include", "exclude") for text in getattr(asked, key)]
    texts += [("rank_pattern", text) for text in asked.rank_pattern]
    for fault in faults(texts, found.pairs.values()):
        problems.add(fault)
    chooser = _Chooser(asked, found)
    chooser.run(problems)
    problems.raise_any()
    made = chooser.choice()
    if not made.layers:
        what = "no weight is left to factor, and PEFT has no adapters without any"
        raise ConfigError("E105", what, hint="include more, or leave 'exclude' out")
    return made


ALWAYS_SAVED = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""How the names of modules end that PEFT stores whole for a task."""
_FAST_PATHS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
}
"""How classes of models end, and what PEFT calls their tasks."""


def task_of(config: Mapping[str, Json]) -> str | None:
    """What PEFT calls the task of a model."""
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    if name.endswith("ForConditionalGeneration"):
        return "SEQ_2_SEQ_LM" if config.get("is_encoder_decoder") else "CAUSAL_LM"
    return next((task for end, task in _TASKS.items() if name.endswith(end)), None)


class _Chooser:
    def __init__(self, asked: Extraction, found: Pairs) -> None:
        self._asked, self._found = asked, found
        self._selector = Selector(asked.include, asked.exclude)
        self._layers: list[Layer] = []
        self._whole: dict[str, None] = {}
        self._biases: dict[str, Pair] = {}
        self._left: dict[str, tuple[Pair, str]] = {}
        self._notes: list[str] = []
        self._grouped: list[str] = []

    def run(self, problems: Collector) -> None:
        for module in self._found.modules.values():
            with problems.collecting():
                self._module(module)
        if not self._asked.only_linear:
            self._whole |= dict.fromkeys(self._heads())
        self._settle()
        if self._grouped:
            what = "convolutions with groups are stored whole, since PEFT cannot merge factors of them"
            self._notes.append(f"{what}: {some(self._grouped)}")

    def choice(self) -> Choice:
        saved = {module: tuple(self._contents(module)) for module in self._whole}
        taken = {one.name for pairs in saved.values() for one in pairs}
        layers = tuple(one for one in self._layers if one.pair.name not in taken)
        taken |= {one.pair.name for one in layers} | set(self._biases)
        left = {name: one for name, one in self._left.items() if name not in taken}
        for name, pair in self._found.pairs.items():
            if name not in taken and name not in left:
                left[name] = (pair, "the loader makes it itself")
        biases = tuple(
            pair for name, pair in self._biases.items() if not any(one.name == name for one in _all(saved))
        )
        return Choice(layers, saved, biases, tuple(left.values()), tuple(self._notes))

    # ---- one module ----

    def _module(self, module: LoadedModule) -> None:
        pairs = {one: pair for one in module.parameters if (pair := self._pair(module.name, one))}
        if not pairs:
            return
        taken = {}
        for parameter, pair in pairs.items():
            if self._selector.takes(pair):
                taken[parameter] = pair
            else:
                self._left[pair.name] = (pair, "not chosen")
        factored = [one for one in taken if self._factor(module, one, taken[one])]
        self._depths(module)
        rest = {one: pair for one, pair in taken.items() if one not in factored}
        self._rest(module, rest, in_part=bool(factored) or len(taken) < len(pairs))

    def _pair(self, module: str, parameter: str) -> Pair | None:
        return self._found.pairs.get(f"{module}.{parameter}" if module else parameter)

    def _factor(self, module: LoadedModule, parameter: str, pair: Pair) -> bool:
        """Whether a parameter is factored, which is then done."""
        kind = module.kind
        if kind == "other" or pair.before is None or self._is_refused(module.name):
            return False
        if kind == "grouped":
            return False
        if len(pair.now.shape) != 3 if kind == "experts" else parameter != "weight":
            return False
        if kind == "embedding" and (self._asked.embeddings != "lora" or self._asked.only_linear):
            return False
        for one in (pair.now, pair.before):
            if not DTYPES[one.dtype].floating:
                what = f"'{pair.name}' is {one.dtype}: its change has no singular values"
                raise InputError("E233", what, tensor=pair.name, hint="use the model before quantisation")
        rank = self._rank(pair)
        if rank == 0:
            self._left[pair.name] = (pair, "its rank is 0")
            return True
        turned = kind == "transposed" or (kind == "experts" and module.takes_in_first)
        self._layers.append(Layer(pair, kind, rank, turned, tied=self._tied(pair)))
        return True

    def _is_refused(self, module: str) -> bool:
        """Whether PEFT refuses to factor a module, since the kernels of its family go round the module."""
        family = self._found.config.get("model_type")
        return family in _FAST_PATHS and module.endswith((".out_proj", ".conv1d"))

    def _tied(self, pair: Pair) -> tuple[str, ...]:
        """The other modules that have the same weight, such as the head."""
        names = (name for name, other in self._found.ties.items() if other == pair.name)
        return tuple(name.removesuffix(".weight") for name in names if name.endswith(".weight"))

    def _rank(self, pair: Pair) -> int:
        shape = pair.now.shape
        full = (
            min(shape[-2:])
            if len(shape) == 3 and self._is_experts(pair)
            else min(shape[0], pair.now.count // shape[0])
        )
        for text, rank in self._asked.rank_pattern.items():
            if fits(text, pair.module, pair.role) or fits(text, pair.name):
                return min(rank, full)
        return full if self._asked.rank == "full" else min(self._asked.rank, full)

    def _is_experts(self, pair: Pair) -> bool:
        return self._found.modules[pair.module].kind == "experts"

    def _depths(self, module: LoadedModule) -> None:
        """PEFT wraps the parameters of a module one after the other."""
        if module.kind != "experts":
            return
        own = [i for i, one in enumerate(self._layers) if one.pair.module == module.name]
        for place, index in enumerate(own):
            one = self._layers[index]
            self._layers[index] = Layer(one.pair, one.kind, one.rank, one.turned, len(own) - 1 - place)

    def _rest(self, module: LoadedModule, rest: Mapping[str, Pair], *, in_part: bool) -> None:
        """What is not factored: biases beside factored weights, and modules that are stored whole."""
        if not rest:
            return
        reason = self._unwanted(module)
        if reason:
            self._left |= {pair.name: (pair, reason) for pair in rest.values()}
            return
        if in_part or module.inside or not module.name:
            self._biases |= {pair.name: pair for pair in rest.values()}
            return
        self._whole[module.name] = None
        if module.kind == "grouped":
            self._grouped.append(module.name)
        for pair in rest.values():  # PEFT's copy of embeddings is no longer tied to them
            self._whole |= dict.fromkeys(self._tied(pair))

    def _unwanted(self, module: LoadedModule) -> str:
        if self._asked.only_linear:
            return "only weights of linear layers are taken"
        if module.kind == "embedding" and self._asked.embeddings == "skip":
            return "embeddings are left out"
        return ""

    # ---- modules that are stored whole ----

    def _settle(self) -> None:
        """Take in all that PEFT counts as a module that is stored: by the end of its name, and inside of it."""
        todo = list(self._whole)
        while todo:
            module = todo.pop()
            for other in sorted(self._found.outer):
                alike = other != module and other.endswith(module) and other not in self._whole
                if alike and any(True for _ in self._found.within(other)):
                    self._whole[other] = None
                    todo.append(other)
        inside = [
            one
            for one in self._whole
            if any(one != other and one.startswith(f"{other}.") for other in self._whole)
        ]
        for one in inside:
            del self._whole[one]
        factored = {one.pair.module for one in self._layers}
        heads = [*self._heads()]
        lost = sorted(
            one
            for one in factored
            if any(f"{one}.".startswith(f"{other}.") for other in self._whole if other not in heads)
        )
        if lost:
            self._notes.append(
                f"stored whole, since PEFT stores the module that they lie in: {', '.join(lost[:6])}"
            )

    def _heads(self) -> Iterator[str]:
        """The heads that PEFT stores whole whatever the config says, as long as they are taken."""
        ends = ALWAYS_SAVED.get(task_of(self._found.config) or "")
        for name in sorted(self._found.outer):
            if ends and name.endswith(ends) and any(map(self._selector.takes, self._found.within(name))):
                yield name

    def _contents(self, module: str) -> Iterator[Pair]:
        yield from self._found.within(module)
        for name, other in self._found.ties.items():
            if name.startswith(f"{module}."):
                source = self._found.pairs[other]
                yield Pair(name, source.role, source.now, source.before)


def _all(saved: Mapping[str, Sequence[Pair]]) -> Iterator[Pair]:
    for pairs in saved.values():
        yield from pairs
