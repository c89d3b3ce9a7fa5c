"""Plans: every output tensor with its inputs and its place in a file; and recipes, which make plans.

Read `Plan`, then `Recipe` and the `Planner` that it is handed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from mergecore.files.strict_json import Json
from mergecore.types.architectures import Description, Loaded
from mergecore.types.methods import MergeMethod
from mergecore.types.models import Checkpoint, ModelReference
from mergecore.types.outputs import Layout, OutputTensor
from mergecore.types.params import Params
from mergecore.types.side_files import SideFiles
from mergecore.types.steps import Step
from mergecore.types.vocabularies import TokenTable, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from mergecore.files.yaml_document import DocPath, Document

S = TypeVar("S", bound=BaseModel)
V = TypeVar("V")

# ---- plans -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dropped:
    """Input tensors that reach no output, and why."""

    model: int
    """Index into `Plan.models`."""
    names: tuple[str, ...]
    """The tensors."""
    reason: str
    """Why, in a few words."""


Again: TypeAlias = "Callable[[Mapping[str, Callable[[Checkpoint], Checkpoint]], Callable[[], Path]], Plan]"
"""Makes a plan anew: by name the models that earlier plans have made, of what was promised; a folder for scratch."""


@dataclass(frozen=True)
class Plan:
    """Everything that will happen, decided from headers alone."""

    models: tuple[Checkpoint, ...]
    """All models that are read."""
    primary: int
    """Index of the model that gives config and side files."""
    steps: tuple[Step, ...]
    """How the tensors are made."""
    layout: Layout
    """The files of weights, and a place in them for every tensor."""
    side_files: Mapping[str, Path | bytes]
    """What is written beside the weights, by name; a path is that of a side file of a model."""
    seed: int
    """What random numbers depend on."""
    executor: str
    """Where the steps run, by name."""
    document: Mapping[str, Json]
    """The config as it was read, `SideFileRequest.document`."""
    descriptions: tuple[Description, ...] = ()
    """What is known about each model, in the order of `models`."""
    layers: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Of each stack whose layers were selected, by its prefix: for each layer the model and layer that stand first."""
    dropped: tuple[Dropped, ...] = ()
    """Tensors that reach no output."""
    warnings: tuple[str, ...] = ()
    """What the user should know; none of it stops the merge."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Distribution and version of every plugin that takes part."""
    title: str = ""
    """The name that the config gives the model."""
    side_digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every side file as it was checked: no other bytes are written."""
    executor_params: Params | None = None
    """The parameters of `executor`; None for its defaults."""
    recipe: str = ""
    """The recipe whose own methods make steps; empty for a merge."""
    writer: str = ""
    """The output writer that has made the layout."""
    earlier: tuple[Earlier, ...] = ()
    """Plans to carry out before, in this order: each may read what those before it make."""
    documents: tuple[DocumentFacts, ...] = ()
    """What there is to show of those of `earlier` and of this one, which is the last; none where it is alone."""
    part: PlanPart | None = None
    """Which of several plans this is, carried out one after the other; None for one that is alone."""
    decided: Mapping[str, Json] = field(default_factory=dict)
    """What a recipe has decided and `mergecore plan` shows, by short names such as `family`."""
    doing: str = ""
    """What the progress calls it, such as "merging 2 adapters"; empty where models are merged."""
    again: Again | None = field(default=None, compare=False, repr=False)
    """Makes this plan anew, where some of `earlier` are carried out."""

    @property
    def outputs(self) -> list[OutputTensor]:
        """Every tensor that is made, in the order of the steps."""
        return [one for step in self.steps for one in step.outputs]


@dataclass(frozen=True)
class Earlier:
    """A plan that is carried out before another one, which reads the model that it makes as `name`."""

    name: str
    """What the other plan calls the model."""
    plan: Plan
    """The plan that makes it."""


@dataclass(frozen=True)
class PlanPart:
    """Where a plan stands among several that are carried out one after the other: `number` of `count`, from 1."""

    name: str
    """By which the others read it; empty for the last."""
    number: int
    """Its place, from 1."""
    count: int
    """How many there are."""


@dataclass(frozen=True)
class DocumentFacts:
    """A document among several of which one reads what another makes.

    name: by which the others read it, empty for the result.  title: the name that it gives itself.  made_by: its
    merge method or recipe.  reads: the names of those that it reads.  nbytes: the size of its weights.
    fused: whether it is computed while it is read, and never written; `why` that is so, or not.
    """

    name: str
    title: str
    made_by: str
    reads: tuple[str, ...]
    nbytes: int
    fused: bool
    why: str


# ---- recipes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanOptions:
    """What the command line adds to a config."""

    offline: bool = False
    """Use only what is on this machine."""
    missing: Literal["error", "base", "skip", "drop"] = "error"
    """What to do about a tensor that a model lacks: refuse, take that of the base, merge the others, leave it out."""
    unexpected: Literal["error", "copy", "drop", "merge"] = "error"
    """What to do about one that the base, or else the first model, lacks; `merge`: merge those that have it."""
    allow_crimes: bool = False
    """Merge models of different architectures as long as the tensors fit."""
    seed: int | None = None
    """Counts in place of the seed of the config."""
    shard_size: int | None = None
    """Bytes that a file of weights may have, in place of what the config says."""
    strict: bool = False
    """Refuse a config of which something has no effect, instead of saying so."""
    fuse: Literal["auto", "always", "never"] = "auto"
    """Whether an intermediate result is computed while it is read, in place of being written: where that costs less,
    wherever it can be, or never."""
    result: str = ""
    """Which of several documents is the output, by its name; empty for the one without a name, or that nobody reads."""

    @property
    def complete(self) -> bool:
        """Whether the models must be of one kind, and every tensor must find its place."""
        return self.missing == self.unexpected == "error" and not self.allow_crimes


ConfigEdit: TypeAlias = "Mapping[str, Json] | Callable[[dict[str, Json]], Mapping[str, Json]]"
"""What a config.json says otherwise: values by key, where None takes a key away; or a function of the whole."""


@dataclass(frozen=True)
class PluginChoice:
    """A plugin by its name, and its parameters as a document would write them."""

    name: str
    """Its name, or NAME@DISTRIBUTION."""
    params: Mapping[str, Json] = field(default_factory=dict)
    """Its parameters by name."""


class Planner(Protocol):
    """What a recipe makes a plan with; it knows the document, the plugins to use and what the command line adds.

    A recipe reads its document, opens models, makes steps of their tensors, and has `side_files` and `plan` made.
    Everything that it does not say is as in a merge.
    """

    @property
    def options(self) -> PlanOptions:
        """What the command line adds."""

    @property
    def seed(self) -> int:
        """What random numbers of the plan depend on."""

    def offered(self, kind: type[V]) -> list[V]:
        """All values of a kind that plugins yield and that can be used, such as those of `MoeFamily`."""

    def named(self, kind: type[V], name: str, path: DocPath = ()) -> V:
        """The one called `name`, or `NAME@DISTRIBUTION`; `path` is where the document names it.

        Raises:
            MergecoreError: E108 or E606 where there is none, E601 to E607 where it cannot be used.
        """

    def read_document(self, schema: type[S]) -> S:
        """The document as `schema` declares it; errors say their place, and which key was meant.

        Every document may also say `name`, `seed`, `output`, `executor` and `side_files`, as a merge config does;
        they need not be declared, and `plan` follows them.

        Raises:
            ConfigError: E103 to E105, E109, E112; several as `Problems`.
        """

    def open(
        self,
        model: ModelReference | str,
        path: DocPath = (),
        *,
        weights: bool = True,
        adapter: bool = False,
    ) -> Checkpoint:
        """A model, named as in a config; `path` is where the document names it.

        weights: whether they are needed; without, a folder of small files will do.
        adapter: that it is an adapter, whose tensors are those of its own file.

        Raises:
            MergecoreError: E701 when no source accepts it; what is wrong with the model.
        """

    def describe(self, model: Checkpoint, *, thorough: bool = False) -> Description:
        """What is known about the tensors of a model; describers that take their time are asked if `thorough`."""

    def loaded(self, model: Checkpoint, like: Checkpoint | None = None) -> Loaded:
        """The modules that a loader makes of a model, by the class that its own config names, or that of `like`."""

    def completed(self, model: Checkpoint) -> Mapping[str, Json] | None:
        """The config of a model with what its loader takes for what is not said; None when no one knows the loader."""

    def vocabulary(self, model: Checkpoint) -> TokenTable | None:
        """The vocabulary of a model; None when it has no tokenizer.

        Raises:
            MergecoreError: E240 when its files cannot be read, E305 when its tokenizer is a class of its own.
        """

    def tokenizer(
        self, model: Checkpoint, *, chat_template: str | None = None, templates_of: Sequence[Checkpoint] = ()
    ) -> Vocabulary:
        """The tokenizer files of a model as they are, with the chat template that a document asks for.

        templates_of: the models among whose templates `auto` chooses.

        Raises:
            MergecoreError: E240 for a template that cannot be read, E308 for one that is too large.
        """

    def compile(
        self, document: Document | Mapping[str, object], models: Mapping[str, Checkpoint] = ...
    ) -> Plan:
        """The plan of another document, such as a merge config, with the same plugins and options.

        models: opened models by names that the document may call them by.
        """

    def before(self, name: str, plan: Plan) -> Checkpoint:
        """Have another plan carried out before: the model that it will make, whose weights are not there yet.

        Later plans may read it, and their documents may name it `name`.  It is made in a folder beside the output,
        and made again only when what it is made from has changed; or computed while it is read, where that costs less.

        Raises:
            PluginError: E605 for a name that is taken, and for a plan whose output cannot be read.
        """

    def side_files(
        self,
        models: Sequence[Checkpoint],
        steps: Sequence[Step],
        *,
        primary: int = 0,
        made_by: str = "",
        config: ConfigEdit | None = ...,
        vocabulary: Vocabulary | None = None,
        pad_to_multiple_of: int = 1,
        selected: Mapping[str, Sequence[tuple[int, int]]] = ...,
        keep: Callable[[str], bool] = ...,
        more: Mapping[str, Path | bytes] = ...,
        card: Mapping[str, Json] = ...,
        title: str = "",
        summary: str = "",
    ) -> SideFiles:
        """The files beside the weights: config.json, tokenizer and others of the primary model, and a model card.

        primary: index into `models`.
        made_by: how the model card says that the model was made; the name of the recipe if nothing is said.
        config: what config.json says differently from the primary model's; None for no such file.  What the tensors
            decide, such as the dtype and whether the head is tied, is put right before.
        vocabulary: another one than the primary model's, with a row of each id for each model; the ids in
            configs follow it.
        selected: of each stack made of layers of others, by its prefix: for each layer the model and layer that
            stand first.
        keep: which side files of the primary model are taken over, by name.
        more: further files.  card: further metadata of the model card.
        title: the heading of the model card, where the document has no `name`.
        summary: how the model was made, in a sentence, where that was no merge; in it {0} stands for the name of the
            first model, {1} for that of the second.

        Raises:
            ConfigError: E113 when no loader would make a model of the layers.
        """

    def plan(
        self,
        models: Sequence[Checkpoint],
        steps: Sequence[Step],
        side_files: SideFiles,
        *,
        primary: int = 0,
        selected: Mapping[str, Sequence[tuple[int, int]]] = ...,
        unused: Mapping[int, str] = ...,
        warnings: Sequence[str] = (),
        output: PluginChoice | None = None,
        used: Iterable[tuple[type, str]] = (),
        doing: str = "",
    ) -> Plan:
        """The plan of `steps`, whose methods are those of the recipe, or merge methods.

        unused: by model, why there are tensors of it that no step reads.
        output: the output writer, where the document need not say which.
        used: further plugins that take part, each by its kind and name.
        doing: what the progress calls it, such as "merging 2 adapters"; how many models are merged if nothing is said.

        Raises:
            MergecoreError: E104, E105 or E109 for parameters of the output writer; E605 for steps that contradict
                each other or the models.
        """


@dataclass(frozen=True)
class Finished:
    """What can be said about an output once all its tensors are there."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """Side files of the plan with other bytes, such as a model card."""
    facts: Mapping[str, Json] = field(default_factory=dict)
    """What the manifest says under `facts`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Another kind of document that compiles to a plan.

    name: what `recipe`, lists and messages call it.
    accepts: whether a document is of this kind; one with a `merge_method` is only where it names the recipe.
    compile: the plan of a document.
    schema: what such a document says, a class of `Params`, or of pydantic; for editors.  A function that returns it
        where importing it takes long.
    methods: what makes steps of its plans and can be named by no config; their plans name the recipe.
    finish: what is said about an output in a folder before it is sealed; it gets the plan, and a function that reads a
        tensor which was written.  It depends on nothing else, so that a run that is resumed says the same.
    summary: what it makes, in one line of at most 59 characters, for lists.
    """

    name: str
    accepts: Callable[[Mapping[str, Json]], bool]
    compile: Callable[[Document, Planner], Plan]
    schema: type[BaseModel] | Callable[[], type[BaseModel]] | None = None
    methods: tuple[MergeMethod[Any], ...] = ()
    finish: Callable[[Plan, Callable[[str], Tensor]], Finished] | None = None
    summary: str = ""
