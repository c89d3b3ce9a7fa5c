"""The output of a merge while it is made: any tensor in any order, nothing lost to an interruption.

`Stage.open` begins or takes up a run, workers call `write` and `finish`, `seal` completes the folder and puts
it under its name.  Bytes become durable before the journal lists them, the manifest after everything, and
the rename comes last: so the target is absent or complete at any instant.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from mergecore.errors import MergecoreError, OutputError, PluginError, counted
from mergecore.files import durable
from mergecore.files.folders import Folder
from mergecore.output import seal, staging
from mergecore.output.inputs import InputFile
from mergecore.output.journal import Journal, Record
from mergecore.output.resume import Output, begin, check_inputs, described, is_complete
from mergecore.output.staging import Staging
from mergecore.output.storages.elsewhere import Elsewhere, check_whole, checked, identity_of
from mergecore.output.target import absolute, check_result, check_target, holds_result
from mergecore.output.verify import Read
from mergecore.types import Json, Layout, OutputTensor, StepResult
from mergecore.types.execution import Mode

COMMIT_BYTES = 2**30
COMMIT_SECONDS = 30.0


class Stage:
    """An output being made.

    complete: the target holds the result of this plan already; there is nothing to do.
    compared: what says that it does, where it is complete.
    damaged: tensors of an earlier run whose bytes were not what the journal says; they count as not done.
    kept: files of the model that was replaced which its merge had not written; they are in the new folder.
    fingerprint: what distinguishes this plan from every other, in hex.
    """

    def __init__(self, output: Output, *, overwrite: bool) -> None:
        self.target = output.places.target
        self.fingerprint = output.fingerprint
        self.complete = False
        self.compared = ""
        self.kept: tuple[str, ...] = ()
        self.damaged: tuple[str, ...] = ()
        self._output = output
        self._overwrite = overwrite
        self._lock: int | None = None
        self._journal: Journal | None = None
        self._records: dict[str, Record] = {}
        self._done: dict[str, str] = {}
        self._guard = threading.Lock()
        self._committing = threading.Lock()
        self._open_files: dict[int, _OpenFile] = {}
        self._queue: list[Record] = []
        self._queued_bytes = 0
        self._committed_at = time.monotonic()
        self._broken = False

    @classmethod
    def open(
        cls,
        target: Path,
        layout: Layout,
        tensors: Sequence[OutputTensor],
        identity: Mapping[str, Json],
        *,
        mode: Mode = "new",
        overwrite: bool = False,
        inputs: Sequence[Path] = (),
        recheck: bool = False,
        reads: Sequence[InputFile] = (),
        read_back: Read | None = None,
    ) -> Stage:
        """Begin the output of a plan, or resume an earlier run of it; `recheck` reads again what that run wrote.

        inputs: folders and files that the output must not touch; `reads`: the files that the plan is made from.
        read_back: reads a file of weights as the output writer does, for a check at the end.

        Raises:
            OutputError: E501, E502, E503, E505 as `check_target`; E506 when another process writes it; E507
                when a partial run is there and `mode` does not say what to do, or it is of another plan or
                other inputs; E508 when the result of this plan is there and damaged.
            PluginError: E402 when the layout has files that cannot be.
        """
        seal.check_names(layout)
        places = Staging(absolute(target))
        output = Output(
            places, layout, {tensor.name: tensor for tensor in tensors}, described(identity, layout), reads
        )
        output = replace(output, read=read_back)
        stage = cls(output, overwrite=overwrite)
        try:
            with stage._telling("preparing the output"):
                stage._begin(target, mode, inputs, recheck)
        except BaseException:
            stage._release()
            raise
        return stage

    @property
    def done(self) -> Mapping[str, str]:
        """Digests of the finished tensors by name, with those of earlier runs."""
        return self._done

    def write(self, name: str, start: int, data: memoryview | bytes | bytearray) -> None:
        """Keep `data`, the bytes of tensor `name` from byte `start` on.  Safe from any thread.

        Raises:
            OutputError: E504 when the disk fails.
            PluginError: E402 when the bytes do not fit the tensor.
        """
        slot = self._output.layout.slots[name]
        view = checked(slot, name, start, data)
        if view.nbytes:
            with self._telling("writing"):
                durable.write_at(self._file_of(name), view, slot.offset + start)

    def read(self, name: str, start: int, into: memoryview) -> None:
        """Fill `into` with bytes of tensor `name` that were written before, from byte `start` on."""
        if into.nbytes == 0:
            return
        view = into.cast("B")
        with self._telling("reading back"):
            if durable.read_at(
                self._file_of(name), view, self._output.layout.slots[name].offset + start
            ) < len(view):
                raise OSError(errno.EIO, "the file became shorter")

    def finish(self, result: StepResult) -> None:
        """Say that all tensors of a step are written; now and then this syncs the disk.  Safe from any thread.

        Raises:
            OutputError: E504 when the disk fails; E506 when another process writes the same output.
            PluginError: E402 when bytes are missing.
        """
        for one in result.outputs:
            check_whole(one, self._output.layout.slots[one.name].nbytes)
        with self._guard:
            for one in result.outputs:
                self._records[one.name] = Record(one.name, one.digest, one.nonfinite)
                self._queue.append(self._records[one.name])
                self._done[one.name] = one.digest
                self._queued_bytes += one.nbytes
            late = time.monotonic() - self._committed_at >= COMMIT_SECONDS
            due = late or self._queued_bytes >= COMMIT_BYTES
        if due:
            with self._telling("writing"):
                self._commit()

    def elsewhere(self) -> Elsewhere:
        """The same places, for another process to open: it writes there, and this one finishes."""
        return Elsewhere(self._output.layout, self._model.path, identity_of(self._model))

    def note_inputs(self, files: Sequence[InputFile]) -> None:
        """Keep the states of files that were not there when the run began.

        Raises:
            OutputError: E504 when the disk fails, E507 when they are not those that an earlier run read.
        """
        assert self._journal
        check_inputs(self._output, self._journal.inputs, files)
        if files:
            with self._telling("writing"):
                self._journal.note({file.name: file.state for file in files})

    def seal(
        self,
        side_files: Mapping[str, Path | bytes],
        facts: Mapping[str, Json],
        digests: Mapping[str, str] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Complete the folder and put it in place; all tensors are finished.  `facts` open the manifest.

        digests: SHA-256 of side files as they were checked; `check` is called just before the model counts as
            complete, and may raise.

        Raises:
            InputError: E235 when a side file is not the one that was checked, E236 when it cannot be read.
            OutputError: E501 when the target has come into being meanwhile, E504 when the disk fails, E508
                when a file of weights is not what the plan says.
            PluginError: E402 when tensors or names are not what the plan says.
        """
        missing = [name for name in self._output.layout.slots if name not in self._records]
        if missing:
            raise PluginError(
                "E402", f"{counted(len(missing), 'tensor')} not made, the first is '{missing[0]}'"
            )
        with self._telling("completing the output"):
            self._commit()
            seal.seal(self._output, self._records, side_files, facts, digests or {}, check)
            self.kept = staging.publish(self._output.places, overwrite=self._overwrite)
        self._release()

    def discard(self) -> None:
        """Remove what was made: the plan cannot be carried out, so nothing can go on from it.

        Raises:
            OutputError: E504 when the disk fails.
        """
        if self._journal:
            self._broken = True
            with self._telling("removing what was made"):
                staging.clear(self._output.places)

    def close(self) -> None:
        """Make durable what is finished and let go; what is staged stays, if anything is finished.

        Raises:
            OutputError: E504 when the disk fails.
        """
        try:
            if self._journal and not self._broken:
                with self._telling("writing"):
                    self._commit()
                    if not self._journal.records:
                        staging.clear(self._output.places)
        finally:
            self._release()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close; an error of the body stays the one that is reported."""
        try:
            self.close()
        except MergecoreError as further:
            if error is None:
                raise
            error.add_note(str(further))

    def _begin(self, target: Path, mode: Mode, inputs: Sequence[Path], recheck: bool) -> None:
        places = self._output.places
        while True:
            self._check(target, inputs)
            if holds_result(places.target, self.fingerprint) and self._is_wanted(mode):
                self.compared = check_result(places.target, self._output.inputs)
                self.complete = True
                return staging.tidy(places)
            self._lock = staging.lock(places)
            if not staging.repair(places):
                break
            self._release()
        self._journal, self.damaged = begin(self._output, mode, recheck=recheck)
        self._records = dict(self._journal.records)
        self._done = {name: record.digest for name, record in self._records.items()}
        if is_complete(self._output, self._journal):
            self.kept = staging.publish(places, overwrite=self._overwrite)
            self.complete = True
            self._release()
        return None

    def _check(self, target: Path, inputs: Sequence[Path]) -> None:
        nbytes = self._output.layout.size
        check_target(target, inputs, self._overwrite, nbytes=nbytes, plan=self._output.plan)

    def _is_wanted(self, mode: Mode) -> bool:
        """Whether a result that is there will do: not if it is to be replaced, or is being replaced."""
        return not self._overwrite or (mode == "resume" and not self._output.places.partial)

    def _telling(self, doing: str) -> AbstractContextManager[None]:
        return durable.telling(self.target, doing)

    def _file_of(self, name: str) -> int:
        """The open file that holds a tensor; it stays open until the tensor is durable."""
        index = self._output.layout.slots[name].file
        with self._guard:
            if index not in self._open_files:
                self._open_files[index] = _OpenFile(self._model.open(self._file(index), os.O_RDWR))
            self._open_files[index].tensors.add(name)
            return self._open_files[index].descriptor

    @property
    def _model(self) -> Folder:
        return self._output.places.model

    def _file(self, index: int) -> str:
        return self._output.layout.files[index].name

    def _commit(self) -> None:
        """Make the finished tensors durable, then journal them.

        A failed sync is final: the system may have dropped the bytes, and would report success the next time.
        """
        with self._committing:
            with self._guard:
                batch, self._queue, self._queued_bytes = self._queue, [], 0
                self._committed_at = time.monotonic()
            if self._broken:
                raise OutputError(
                    "E504", "an earlier write failed", place=str(self.target), hint="run again with --resume"
                )
            if not batch or self._journal is None:
                return
            self._broken = True
            self._sync_files(batch)
            self._journal.append(batch)
            self._broken = False
            self._close_files(batch)

    def _sync_files(self, batch: Sequence[Record]) -> None:
        for index in sorted({self._output.layout.slots[record.name].file for record in batch}):
            with self._guard:
                opened = self._open_files.get(index)
            if opened:
                durable.sync(opened.descriptor)
            else:  # it holds empty tensors only, or another process wrote it
                self._model.sync_file(self._file(index))

    def _close_files(self, batch: Sequence[Record]) -> None:
        """Close the files in which no tensor is being written: many small files need few descriptors."""
        with self._guard:
            for record in batch:
                index = self._output.layout.slots[record.name].file
                opened = self._open_files.get(index)
                if opened:
                    opened.tensors.discard(record.name)
                    if not opened.tensors:
                        os.close(self._open_files.pop(index).descriptor)

    def _release(self) -> None:
        """Close everything; the lock goes last."""
        for opened in self._open_files.values():
            os.close(opened.descriptor)
        self._open_files.clear()
        if self._journal:
            self._journal.close()
            self._journal = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._output.places.close()


@dataclass(frozen=True)
class _OpenFile:
    descriptor: int
    tensors: set[str] = field(default_factory=set)
    """Those that are not durable yet."""
