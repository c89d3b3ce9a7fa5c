"""Checks of output writers; read `check_writer`, then `WRITER`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np

from mergecore.errors import ConfigError, InputError, MergecoreError, PolicyError
from mergecore.files.dtypes import nbytes
from mergecore.models.module_folders import name_in_file
from mergecore.output.manifest import read_manifest
from mergecore.output.verify import verify_folder
from mergecore.pipeline.folders import merge
from mergecore.pipeline.plans import plan, planner
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.testing.kinds.vocabularies import check_file
from mergecore.testing.registries import registry_with
from mergecore.types import Json, Layout, LayoutRequest, OutputTensor, OutputWriter
from mergecore.types.execution import RunOptions
from mergecore.types.params import Params


def check_writer(
    writer: OutputWriter[Any],
    *,
    params: Params | Mapping[str, Json] | None = None,
    model: Path | str | None = None,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check where a writer puts tensors, how it encodes them, and that what it writes can be read back.

    params: its parameters; None for the defaults.
    model: a model that it can write; None for a tiny Llama.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with writer_case(writer, params, model, registry) as case:
        hold(f"output writer '{writer.name}'", WRITER, case, without)


@dataclass
class WriterCase:
    """A writer with its parameters, and a model to write."""

    writer: OutputWriter[Any]
    params: Params
    model: Path
    registry: Registry
    folder: Path
    own: bool
    """Whether the model is one of this kit, which the writer may refuse."""

    @cached_property
    def request(self) -> LayoutRequest:
        """The model, to be laid out."""
        opener = planner(registry=self.registry)
        opened = opener.open(str(self.model))
        tensors = tuple(OutputTensor(one.name, one.dtype, one.shape) for one in opened.tensors.values())
        return LayoutRequest(
            tensors=tensors,
            config=opened.config,
            side_files=opened.side_files,
            vocabulary=lambda: opener.vocabulary(opened),
            primary=opened,
            description=opener.describe(opened),
            title="a model",
        )

    def lay_out(self, request: LayoutRequest) -> Layout:
        """Where the writer puts the tensors of a request."""
        made = self.writer.layout(request, self.params)
        demand(isinstance(made, Layout), f"`layout` returns {type(made).__name__}; return a Layout")
        return made

    @cached_property
    def written(self) -> Path:
        """The model, written by a merge."""
        return self.merge("out", 1)

    def merge(self, name: str, threads: int) -> Path:
        """The model, written by a merge with so many threads."""
        config: dict[str, Any] = {
            "merge_method": "passthrough",
            "models": [{"model": str(self.model)}],
            "output": {
                "writer": self.writer.name,
                **self.params.model_dump(mode="json", exclude_defaults=True),
            },
        }
        options = RunOptions(threads=threads)
        out = Path(mkdtemp(dir=self.folder)) / name
        self._check_planned(config)
        return merge(config, out, registry=self.registry, run_options=options)

    def _check_planned(self, config: dict[str, Any]) -> None:
        """Raise where a merge of a model of this kit is refused, which is so before anything is written."""
        try:
            plan(config, registry=self.registry)
        except (ConfigError, InputError, PolicyError) as error:
            if self.own:
                raise NotCheckedError(f"it refuses a tiny Llama; give it another model: {error}") from error
            raise


@contextmanager
def writer_case(
    writer: OutputWriter[Any],
    params: Params | Mapping[str, Json] | None = None,
    model: Path | str | None = None,
    registry: Registry | None = None,
) -> Iterator[WriterCase]:
    """A case for `WRITER`."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        chosen = Path(model) if model else tiny_model(folder / "model", config={"vocab_size": 64})
        made = params if isinstance(params, Params) else writer.params.model_validate(dict(params or {}))
        registry = registry or registry_with(OutputWriter, writer)
        yield WriterCase(writer, made, chosen, registry, folder, model is None)


ODD_TENSORS = (
    OutputTensor("scalar", "F32", ()),
    OutputTensor("one", "BF16", (1,)),
    OutputTensor("odd", "F16", (3, 5)),
    OutputTensor("bytes", "U8", (7,)),
    OutputTensor("double", "F64", (2, 3)),
    OutputTensor("empty", "F32", (0, 4)),
    OutputTensor("numbers", "I64", (3,)),
)


def _requests(case: WriterCase) -> Iterator[tuple[str, LayoutRequest, Layout]]:
    """What is laid out, and how; a writer may refuse odd tensors."""
    yield "the model", case.request, case.lay_out(case.request)
    for one in ODD_TENSORS:
        request = LayoutRequest(tensors=(one, OutputTensor("last", "F32", (64, 64))))
        try:
            layout = case.lay_out(request)
        except MergecoreError:
            continue
        yield f"a tensor of {one.dtype} {list(one.shape)}", request, layout


def _every_tensor_has_a_place(case: WriterCase) -> None:
    for what, request, layout in _requests(case):
        names = {one.name for one in request.tensors}
        lacking, unknown = names - set(layout.slots), set(layout.slots) - names
        demand(not lacking, f"of {what}, '{min(lacking, default='')}' has no place in `slots`")
        demand(not unknown, f"of {what}, `slots` has '{min(unknown, default='')}', which is no tensor of it")


def _places_fit(case: WriterCase) -> None:
    for what, request, layout in _requests(case):
        tensors = {one.name: one for one in request.tensors}
        for name, slot in layout.slots.items():
            one = tensors[name]
            demand(
                0 <= slot.file < len(layout.files),
                f"of {what}, '{name}' is in file {slot.file}, which is not there",
            )
            file = layout.files[slot.file]
            codec = case.writer.codecs.get(slot.encoding)
            demand(
                not slot.encoding or codec is not None,
                f"of {what}, '{name}' has the encoding '{slot.encoding}', which `codecs` lacks",
            )
            size = codec.nbytes(one.count) if codec else nbytes(one.dtype, one.shape)
            demand(
                slot.nbytes == size,
                f"of {what}, '{name}' has a place of {slot.nbytes} bytes and takes {size}",
            )
            demand(
                slot.offset >= len(file.header) and slot.offset + slot.nbytes <= file.size,
                f"of {what}, '{name}' does not lie between the {len(file.header)} bytes of the header "
                f"and the end of the file at {file.size}",
            )


def _places_are_apart(case: WriterCase) -> None:
    for what, _, layout in _requests(case):
        for index in range(len(layout.files)):
            taken = sorted(
                (slot.offset, slot.offset + slot.nbytes, name)
                for name, slot in layout.slots.items()
                if slot.file == index and slot.nbytes
            )
            for (_, stop, first), (start, _, second) in pairwise(taken):
                demand(
                    stop <= start,
                    f"of {what}, '{first}' and '{second}' overlap in {layout.files[index].name}",
                )


def _files_are_apart(case: WriterCase) -> None:
    for what, _, layout in _requests(case):
        names = [one.name for one in layout.files] + list(layout.index_files)
        demand(len(names) == len(set(names)), f"of {what}, two files have one name: {sorted(names)}")
        for name in names:
            check_file(name, b"")
        for file in layout.files:
            demand(
                len(file.header) <= file.size,
                f"of {what}, the header of {file.name} has {len(file.header)} bytes, and the file {file.size}",
            )


def _lays_out_the_same(case: WriterCase) -> None:
    demand(
        case.lay_out(case.request) == case.lay_out(case.request),
        "laid out twice, the files are not the same; a run could not be resumed",
    )


def _encodes_blocks(case: WriterCase) -> None:
    if not case.writer.codecs:
        raise NotCheckedError("it has no encodings of its own")
    for name, codec in case.writer.codecs.items():
        size = codec.block_elements
        demand(
            size > 0 and not size & (size - 1),
            f"the encoding '{name}' has blocks of {size} numbers; a power of two is expected",
        )
        largest = min(codec.largest, 1e30)
        drawn = np.random.default_rng(0).normal(size=8 * size).astype(np.float32)
        numbers = np.concatenate([drawn, np.zeros(size, np.float32), np.full(size, largest, np.float32)])
        kept = numbers.copy()
        whole = bytes(codec.encode(numbers))
        demand(np.array_equal(numbers, kept), f"the encoding '{name}' changes the numbers that it is given")
        demand(
            len(whole) == codec.nbytes(len(numbers)),
            f"the encoding '{name}' makes {len(whole)} bytes of {len(numbers)} numbers, "
            f"where {codec.nbytes(len(numbers))} are said",
        )
        parts = b"".join(bytes(codec.encode(numbers[i : i + size])) for i in range(0, len(numbers), size))
        demand(
            parts == whole,
            f"the encoding '{name}' makes other bytes where it gets one block at a time; "
            "a block must not depend on its neighbours",
        )


def _writes(case: WriterCase) -> None:
    manifest = read_manifest(case.written)
    files = {one.file for one in manifest.tensors.values()}
    demand(files, "a merge with it writes no file of weights")
    lacking = sorted(name for name in files if not (case.written / name).is_file())
    demand(not lacking, f"a merge with it does not write {', '.join(lacking)}")


def _is_verified(case: WriterCase) -> None:
    verify_folder(case.written, case.registry)


def _reads_back(case: WriterCase) -> None:
    if case.writer.read is None:
        raise NotCheckedError("it has no `read`")
    written: dict[str, dict[str, str]] = {}
    for name, one in read_manifest(case.written).tensors.items():
        place = f"{one.encoding or one.dtype} {list(one.shape)} at byte {one.offset}"
        written.setdefault(one.file, {})[name_in_file(name)] = place
    for file, expected in written.items():
        stored = list(case.writer.read(case.written / file))
        found = {one.name: f"{one.dtype} {list(one.shape)} at byte {one.offset}" for one in stored}
        demand(len(found) == len(stored), f"`read` finds a tensor of {file} twice")
        for name in {**expected, **found}:
            here, there = found.get(name, "not there"), expected.get(name, "not there")
            demand(here == there, f"`read` says that '{name}' of {file} is {here}; it is {there}")


def _threads_write_the_same(case: WriterCase) -> None:
    first, second = digests(case.written), digests(case.merge("threads", 4))
    differing = sorted(name for name in {**first, **second} if first.get(name) != second.get(name))
    demand(not differing, f"with 4 threads, other bytes are written in {', '.join(differing)}")


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


WRITER: Sequence[Property[WriterCase]] = (
    Property("places", "every tensor has a place", _every_tensor_has_a_place),
    Property("sizes", "places are as large as what is written there", _places_fit),
    Property("apart", "places do not overlap", _places_are_apart),
    Property("files", "files have names of their own", _files_are_apart),
    Property("same", "laid out again, everything is where it was", _lays_out_the_same),
    Property("blocks", "encodings take one block or many", _encodes_blocks),
    Property("write", "a merge is written", _writes),
    Property("verify", "what is written is verified", _is_verified),
    Property("read", "what is written is read back", _reads_back),
    Property("threads", "threads write the same bytes", _threads_write_the_same),
)
"""What every writer keeps."""
