"""Checks of model sources; read `check_source`, then `SOURCE`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from mergecore.compute.scratch import Scratch
from mergecore.config.reference import exists_below, parse_reference
from mergecore.engine.weights import StepInputs, WeightFiles
from mergecore.errors import MergecoreError
from mergecore.files.dtypes import MERGEABLE
from mergecore.pipeline.folders import merge
from mergecore.pipeline.plans import planner
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand, demand_sizes, hold, told
from mergecore.testing.registries import registry_with
from mergecore.types import Checkpoint, ModelReference, ModelSource, OpenOptions, TensorInput
from mergecore.types.plans import PlanOptions


def check_source(
    source: ModelSource,
    reference: str | Path | ModelReference,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    registry: Registry | None = None,
    offline: bool = True,
    without: Collection[str] = (),
) -> None:
    """Check that a source opens `reference`, and what it opens can be read in every way that merges read it.

    tensors: the numbers that are expected, by name.
    registry: what else the source opens models with; None for the installed plugins.
    offline: whether it must do without a network.
    without: names of properties that are not checked.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with source_case(source, reference, tensors, registry, offline) as case:
        hold(f"model source '{source.name}'", SOURCE, case, without)


# ---- sources -----------------------------------------------------------------------------------------------

ODD_REFERENCES = ("", ".", "a b", "org/model", "hf:org/model", "./nothing/here", "x:y", "ü\u2028", "a" * 300)


@dataclass
class SourceCase:
    """A source, and a reference for it to open."""

    source: ModelSource
    given: ModelReference | None
    registry: Registry
    tensors: Mapping[str, Tensor] | None
    offline: bool
    folder: Path

    @property
    def reference(self) -> ModelReference:
        """What the source is to open."""
        if self.given is None:
            raise NotCheckedError("no reference is given that it opens")
        return self.given

    @cached_property
    def options(self) -> OpenOptions:
        """What the source is handed: other models are opened by the same plugins."""
        known = planner(registry=self.registry, options=PlanOptions(offline=self.offline))

        def open_further(
            reference: ModelReference | str, *, weights: bool = True, adapter: bool = False
        ) -> Checkpoint:
            return known.open(reference, weights=weights, adapter=adapter)

        return OpenOptions(offline=self.offline, open_model=open_further)

    @cached_property
    def opened(self) -> Checkpoint:
        """What the source makes of the reference."""
        made = self.source.open(self.reference, self.options)
        demand(
            isinstance(made, Checkpoint),
            f"`open` returns {type(made).__name__}; return a Checkpoint, such as `open_folder` makes",
        )
        return made


@contextmanager
def source_case(
    source: ModelSource,
    reference: str | Path | ModelReference | None,
    tensors: Mapping[str, Tensor] | None = None,
    registry: Registry | None = None,
    offline: bool = True,
) -> Iterator[SourceCase]:
    """A case for `SOURCE`."""
    if reference is not None and not isinstance(reference, ModelReference):
        reference = parse_reference(str(reference), exists_below(Path()))
    registry = registry or registry_with(ModelSource, source)
    with TemporaryDirectory() as folder:
        yield SourceCase(source, reference, registry, tensors, offline, Path(folder))


def _accepts(case: SourceCase) -> None:
    answer = case.source.accepts(case.reference, case.options)
    demand(
        answer is True,
        f"`accepts` returns {answer!r} for '{case.reference}'; return True for what it opens",
    )


def _odd_references(case: SourceCase) -> None:
    for text in ODD_REFERENCES:
        try:
            answer = case.source.accepts(ModelReference(text), case.options)
        except MergecoreError:
            continue  # it says what is wrong with it
        except Exception as error:
            what = f"`accepts` raises {told(error)} for the reference {text!r}; return False for what it does not know"
            raise AssertionError(what) from error
        demand(
            isinstance(answer, bool),
            f"`accepts` returns {answer!r} for the reference {text!r}; return True or False",
        )


def _leaves_others(case: SourceCase) -> None:
    plain = tiny_model(case.folder / "plain")
    for reference in (ModelReference(str(plain)), ModelReference("org/model")):
        first = _first_to_accept(case, reference)
        if first is case.source and case.source.name not in ("local", "hub"):
            kind = "a plain folder" if reference.path == str(plain) else "a hub id"
            raise AssertionError(
                f"it accepts {kind} and is asked before the built-in source, by its rank {case.source.rank}: "
                "the package would change configs that do not ask for it; accept only what it knows by a sign, "
                "such as a prefix"
            )


def _first_to_accept(case: SourceCase, reference: ModelReference) -> ModelSource | None:
    sources = {one.name: one for one in case.registry.all(ModelSource)} | {case.source.name: case.source}
    for one in sorted(sources.values(), key=lambda one: (one.rank, one.name)):
        if one.accepts(reference, case.options):
            return one
    return None


def _is_first(case: SourceCase) -> None:
    first = _first_to_accept(case, case.reference)
    demand(
        first is not None and first.name == case.source.name,
        f"'{case.reference}' is opened by the source '{first.name if first else ''}', which is asked before; "
        "give this one a lower rank",
    )


def _opened_is_sound(case: SourceCase) -> None:
    made = case.opened
    demand(made.tensors, f"'{case.reference}' has no tensors; list them in `Checkpoint.tensors`")
    demand(
        made.reference == case.reference,
        f"`Checkpoint.reference` is '{made.reference}', not '{case.reference}'; pass on the one that it is asked for",
    )
    for name, one in made.tensors.items():
        demand(one.name == name, f"the tensor '{name}' calls itself '{one.name}'; give both the same name")
        demand(all(size >= 0 for size in one.shape), f"the tensor '{name}' has the shape {one.shape}")
        demand(
            isinstance(one.data.identity, str),
            f"`identity` of the tensor '{name}' is not text; make it of what decides its numbers",
        )
    for name, path in made.side_files.items():
        demand(path.is_file(), f"the side file '{name}' is not there: {path}")
    for file in made.weight_files:
        demand(
            made.fetch is not None or file.path.is_file(),
            f"the file of weights {file.path} is not there; without `fetch`, all of them must be",
        )
    json.dumps(dict(made.config), allow_nan=False)


def _opens_the_same(case: SourceCase) -> None:
    first, second = case.opened, case.source.open(case.reference, case.options)
    for name in {**first.tensors, **second.tensors}:
        one, other = first.tensors.get(name), second.tensors.get(name)
        same = (
            one
            and other
            and (one.dtype, one.shape, one.identity) == (other.dtype, other.shape, other.identity)
        )
        demand(
            same,
            f"opened twice, the tensor '{name}' has another dtype, shape or identity: a run could not be resumed; "
            "let them depend on the reference and on files alone",
        )
    demand(
        list(first.tensors) == list(second.tensors),
        "opened twice, the tensors stand in another order; sort them",
    )
    demand(
        first.weight_files == second.weight_files,
        "opened twice, `weight_files` differ; list each file once, in a fixed order",
    )


def _opens_without_weights(case: SourceCase) -> None:
    options = OpenOptions(offline=case.offline, weights=False, open_model=case.options.open_model)
    made = case.source.open(case.reference, options)
    demand(isinstance(made, Checkpoint), "with `weights=False`, `open` must return a Checkpoint, too")
    demand(
        dict(made.config) == dict(case.opened.config),
        "with `weights=False`, the config is another one; leave out weights alone",
    )


def _read(case: SourceCase, name: str, spans: Sequence[tuple[int, int]], workers: int = 1) -> Tensor:
    """A tensor, read by these spans."""
    made = case.opened
    one = made.tensors[name]
    dtype = torch.float64 if one.dtype == "F64" else torch.float32
    whole = torch.full((one.count,), float("nan"), dtype=dtype)
    with WeightFiles([made]) as files:
        inputs = StepInputs(files, Scratch(torch.device("cpu")), [TensorInput(0, one)], lambda _: made.name)

        def load(span: tuple[int, int]) -> None:
            inputs.load(*span, [whole[span[0] : span[1]]])

        if workers == 1:
            for span in spans:
                load(span)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(load, spans))
    return whole.view(one.shape)


def _readable(case: SourceCase) -> Iterator[str]:
    """The tensors of numbers that can be averaged."""
    if case.opened.fetch is not None:
        raise NotCheckedError("the weights would have to be downloaded")
    for name, one in case.opened.tensors.items():
        if one.dtype in MERGEABLE and one.count:
            yield name


def _reads(case: SourceCase) -> None:
    for name in _readable(case):
        whole = _read(case, name, [(0, case.opened.tensors[name].count)])
        demand(
            bool(torch.isfinite(whole).all()),
            f"the tensor '{name}' has numbers that are not finite; `load` must fill all that it is asked for",
        )


def _reads_in_pieces(case: SourceCase) -> None:
    for name in _readable(case):
        count = case.opened.tensors[name].count
        whole = _read(case, name, [(0, count)])
        for size in (1 if count < 200 else 61, 7 if count < 2000 else 997):
            spans = [(start, min(start + size, count)) for start in range(0, count, size)]
            demand(
                torch.equal(_read(case, name, spans[::-1]), whole),
                f"the tensor '{name}' has other numbers where it is read in pieces of {size} from its end; "
                "`load` must fill `into` with the elements from `start` up to `stop`",
            )


def _reads_in_threads(case: SourceCase) -> None:
    for name in _readable(case):
        count = case.opened.tensors[name].count
        size = max(1, count // 16)
        spans = [(start, min(start + size, count)) for start in range(0, count, size)]
        demand(
            torch.equal(_read(case, name, spans, workers=4), _read(case, name, [(0, count)])),
            f"the tensor '{name}' has other numbers where several threads read it; "
            "keep nothing in the tensor while it is read, and borrow memory with `reader.room`",
        )


def _expected_numbers(case: SourceCase) -> None:
    if case.tensors is None:
        raise NotCheckedError("no numbers are given to compare with")
    made = case.opened
    demand(
        set(made.tensors) == set(case.tensors),
        f"the tensors differ from those expected: {sorted(set(made.tensors) ^ set(case.tensors))[:5]}",
    )
    for name in _readable(case):
        found, wanted = _read(case, name, [(0, made.tensors[name].count)]), case.tensors[name]
        demand(
            tuple(found.shape) == tuple(wanted.shape),
            f"the tensor '{name}' has the shape {list(found.shape)}, not {list(wanted.shape)}",
        )
        demand(
            torch.equal(found, wanted.to(found.dtype)), f"the tensor '{name}' has other numbers than expected"
        )


def _travels(case: SourceCase) -> None:
    for name, one in case.opened.tensors.items():
        try:
            again = pickle.loads(pickle.dumps(one))  # noqa: S301 - what was pickled in this line
        except Exception as error:
            raise AssertionError(
                f"the tensor '{name}' cannot be pickled, so no executor of several processes can read it: "
                f"{told(error)}; keep plain values in it, and define its class in a module"
            ) from error
        demand(
            (again.dtype, again.shape, again.identity) == (one.dtype, one.shape, one.identity),
            f"the tensor '{name}' is another one once it was pickled",
        )


def _says_its_memory(case: SourceCase) -> None:
    for name, one in case.opened.tensors.items():
        demand_sizes(one.data.extra_memory, f"`extra_memory` of the tensor '{name}'")


def _merges(case: SourceCase) -> None:
    names = list(_readable(case))
    config = {"merge_method": "passthrough", "models": [{"model": case.reference.path}]}
    if case.reference.adapters or case.reference.revision:
        config = {"merge_method": "passthrough", "models": [{"model": str(case.reference)}]}
    options = PlanOptions(offline=case.offline)
    out = merge(config, case.folder / "out", registry=case.registry, plan_options=options)
    written = {name: one for file in out.glob("*.safetensors") for name, one in load_file(file).items()}
    for name in names:
        found = written.get(name)
        demand(found is not None, f"merged alone, the model lacks its tensor '{name}'")
        assert found is not None
        wanted = _read(case, name, [(0, case.opened.tensors[name].count)]).to(found.dtype)
        demand(torch.equal(found, wanted), f"merged alone, the tensor '{name}' has other numbers")


SOURCE: Sequence[Property[SourceCase]] = (
    Property("accepts", "the reference is accepted", _accepts),
    Property("odd", "odd references are refused without an exception", _odd_references),
    Property("others", "plain folders and hub ids are left to the built-in sources", _leaves_others),
    Property("first", "no other source takes the reference", _is_first),
    Property("opened", "what it opens is complete: names, files, config", _opened_is_sound),
    Property("same", "opened again, it is the same", _opens_the_same),
    Property("weights", "it opens without weights", _opens_without_weights),
    Property("read", "every tensor can be read", _reads),
    Property("pieces", "pieces of a tensor are what the whole is", _reads_in_pieces),
    Property("threads", "several threads read the same numbers", _reads_in_threads),
    Property("numbers", "the numbers are those expected", _expected_numbers),
    Property("pickle", "tensors can be pickled for other processes", _travels),
    Property("memory", "the memory that tensors take is said", _says_its_memory),
    Property("merge", "merged alone, the model stays as it is", _merges),
)
"""What every source keeps."""
