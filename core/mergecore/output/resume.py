"""Begins an output, or takes up what an earlier run left of it; never mixes two plans.

`begin` is the whole of it: it decides about an earlier run, reserves the disk, and says what is done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from mergecore.errors import MergecoreError, OutputError, counted
from mergecore.files import durable
from mergecore.files.sizes import size_text
from mergecore.files.strict_json import parse_json
from mergecore.output import comparing, staging
from mergecore.output.digests import block_bytes, digest_of_file_span
from mergecore.output.inputs import InputFile, differences
from mergecore.output.journal import Journal
from mergecore.output.manifest import NAME as MANIFEST
from mergecore.output.manifest import parse_manifest
from mergecore.output.staging import Staging
from mergecore.output.verify import Read, check_files, unlisted
from mergecore.types import Json, Layout, OutputTensor
from mergecore.types.execution import Mode

_FORMAT = "mergecore-stage/2"
_THREADS = 2
_NAMED = 3
_RESTART = "--restart to throw it away, or choose another output folder"


@dataclass(frozen=True)
class Output:
    """What is to be written: where, and according to which plan."""

    places: Staging
    layout: Layout
    tensors: Mapping[str, OutputTensor]
    plan: Mapping[str, Json]
    """The identity of the plan and of its layout."""
    inputs: Sequence[InputFile] = ()
    """The files that it reads."""
    read: Read | None = None
    """What reads its files of weights back."""

    @property
    def fingerprint(self) -> str:
        """What distinguishes this plan from every other, in hex."""
        return fingerprint(self.plan)


def fingerprint(plan: Mapping[str, Json]) -> str:
    """What distinguishes a described plan from every other, in hex."""
    return _sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode())


def described(identity: Mapping[str, Json], layout: Layout) -> dict[str, Json]:
    """`identity` with a description of `layout`."""
    slots = [
        [name, slot.file, slot.offset, slot.nbytes, *filter(None, [slot.encoding])]
        for name, slot in layout.slots.items()
    ]
    return {
        **identity,
        "layout": {
            "files": [
                {"name": file.name, "size": file.size, "header_sha256": _sha256(file.header)}
                for file in layout.files
            ],
            "slots_sha256": _sha256(json.dumps(slots).encode()),
            "extra": {name: _sha256(data) for name, data in layout.index_files.items()},
        },
    }


def begin(output: Output, mode: Mode, *, recheck: bool) -> tuple[Journal, tuple[str, ...]]:
    """The journal with what is done, and the tensors that were done but are damaged; the lock is held.

    Raises:
        OutputError: E503 when the disk is too small, E507 when an earlier run is in the way.
    """
    places = output.places
    fresh = not places.partial or mode == "restart" or (mode == "new" and _nothing_done(places))
    if not fresh:
        _check_same_plan(output, mode)
        return _take_up(output, recheck)
    try:
        staging.discard(places)
        _reserve(output)
        journal = Journal(places.work)  # before the plan, whose sync of the folder makes its name durable
        _write_plan(output)
    except BaseException:
        staging.clear(places)
        raise
    return journal, ()


def _write_plan(output: Output) -> None:
    places = output.places
    content = {
        "format": _FORMAT,
        "tensors": len(output.layout.slots),
        "plan": dict(output.plan),
        "inputs": {file.name: file.state for file in output.inputs if file.state},
    }
    places.work.replace(staging.PLAN, json.dumps(content).encode())
    for folder in (places.model, places.root, places.parent):
        folder.sync()


def _reserve(output: Output) -> None:
    """Make every file of weights as long as it will be, with its header."""
    for file in output.layout.files:
        descriptor = output.places.model.open(file.name, os.O_RDWR | os.O_CREAT)
        try:
            durable.allocate(descriptor, file.size)
            durable.write_at(descriptor, memoryview(file.header), 0)
        except OSError as error:
            if error.errno not in durable.NO_SPACE:
                raise
            what = f"the weights need {size_text(output.layout.size)}, the disk has less: {error.strerror}"
            hint = "free some space or choose an output folder on another disk"
            raise OutputError("E503", what, place=str(output.places.target), hint=hint) from error
        finally:
            os.close(descriptor)


# ---- an earlier run ----------------------------------------------------------------------------------------


def _nothing_done(places: Staging) -> bool:
    """Whether the earlier run was stopped before its first tensor, so that there is nothing to lose."""
    journal = Journal(places.work)
    journal.close()
    return not journal.records


def check_inputs(output: Output, before: Mapping[str, Json], now: Sequence[InputFile]) -> None:
    """Refuse to go on with files that are not provably those that an earlier run read; raises E507."""
    if named := _first(differences(before, now)):
        what = f"the files that the partial run read have changed: {named}"
        raise _refusal(output, what, _RESTART)


def _check_same_plan(output: Output, mode: Mode) -> None:
    earlier, total, before = _earlier_plan(output.places)
    named = comparing.told(earlier, output.plan)
    if named and mode == "resume":
        raise _refusal(output, f"the partial run is of another plan; it differs in {named}", _RESTART)
    journal = Journal(output.places.work)
    journal.close()
    count = f"{len(journal.records)} of {counted(total, 'tensor')}"
    if named:
        what = f"a partial run of another plan exists ({count}); it differs in {named}"
        raise _refusal(output, what, _RESTART)
    check_inputs(output, {**before, **journal.inputs}, output.inputs)
    if mode == "resume":
        return
    hint = "--resume to go on, --restart to throw it away"
    raise _refusal(output, f"a partial run exists ({count}, the same plan)", hint)


def _first(found: Iterator[str]) -> str:
    """The first few of what was found, in one line."""
    named = list(islice(found, _NAMED + 1))
    return ", ".join(named[:_NAMED]) + (", …" if len(named) > _NAMED else "")


def _refusal(output: Output, what: str, hint: str) -> OutputError:
    return OutputError("E507", what, place=str(output.places.target), hint=hint)


def _earlier_plan(places: Staging) -> tuple[Json, int, dict[str, Json]]:
    """The plan of the earlier run, its number of tensors, its inputs; no plan where it cannot be read."""
    try:
        content = parse_json(places.work.read(staging.PLAN) or b"", code="E507")
    except MergecoreError:
        return None, 0, {}
    match content:
        case {
            "format": str(form),
            "tensors": int(total),
            "plan": dict(plan),
            "inputs": dict(inputs),
        } if form == _FORMAT:
            return plan, total, inputs
    return None, 0, {}


def _take_up(output: Output, recheck: bool) -> tuple[Journal, tuple[str, ...]]:
    journal = Journal(output.places.work)
    try:
        _check_known(output, journal)
        damaged = _damaged(output, journal, recheck)
        if damaged:
            journal.forget(damaged)
        if not is_complete(output, journal):
            output.places.model.remove(MANIFEST)
            _reserve(output)
            output.places.model.sync()
    except BaseException:
        journal.close()
        raise
    return journal, damaged


def is_complete(output: Output, journal: Journal) -> bool:
    """Whether the staged model is whole: its manifest is of this plan, and all is as manifest and journal say."""
    model = output.places.model
    try:
        whole = parse_manifest(model.read(MANIFEST) or b"", str(model.path / MANIFEST))
    except MergecoreError:
        return False
    return (
        whole.fingerprint == output.fingerprint
        and output.layout.slots.keys() == journal.records.keys()
        and {name: one.digest for name, one in whole.tensors.items()}
        == {name: one.digest for name, one in journal.records.items()}
        and not unlisted(model.path, whole)
        and not any(check_files(model.path, whole, ()))
    )


def _check_known(output: Output, journal: Journal) -> None:
    """Refuse a journal of tensors that the plan does not have."""
    strangers = [name for name in journal.records if name not in output.layout.slots]
    if strangers:
        what = f"the journal of the partial run holds a tensor that the plan does not have: '{strangers[0]}'"
        raise _refusal(output, what, _RESTART)


def _damaged(output: Output, journal: Journal, recheck: bool) -> tuple[str, ...]:
    """Tensors in files that are gone or were cut, and those whose bytes are not what the journal says.

    Bytes are read only where a crash of the machine may have lost them: that of a process cannot.
    """
    slots = output.layout.slots
    sound = [_is_sound(output, index) for index in range(len(output.layout.files))]
    suspects = set(journal.records) if recheck else journal.unsure
    readable = [name for name in journal.records if sound[slots[name].file] and name in suspects]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(readable, pool.map(lambda name: _digest(output, name), readable), strict=True))
    return tuple(
        name
        for name, record in journal.records.items()
        if not sound[slots[name].file] or digests.get(name, record.digest) != record.digest
    )


def _is_sound(output: Output, index: int) -> bool:
    file = output.layout.files[index]
    status = output.places.model.status(file.name)
    return status is not None and status.st_size == file.size


def _digest(output: Output, name: str) -> str:
    slot = output.layout.slots[name]
    file = output.places.model.open(output.layout.files[slot.file].name, os.O_RDONLY)
    try:
        tensor = output.tensors[name]
        size = block_bytes(tensor.dtype, tensor.shape, slot.nbytes, encoded=bool(slot.encoding))
        return digest_of_file_span(file, slot.offset, slot.nbytes, size)
    finally:
        os.close(file)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
