"""Several forward passes through one model that go from layer to layer together.

Each pass is the model's own `forward`, in a thread of its own; a single one of them runs at any time.  One that comes
to a layer whose weights are not there waits until all others wait, too: then the weights of the next layer are brought.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mergecore import MergeError


class Lockstep:
    """Passes that wait for each other; read `run`."""

    def __init__(self, bring: Callable[[str], None], put_away: Callable[[str], None]) -> None:
        """`bring` is called with a layer that somebody waits for, `put_away` with one that nobody waits for."""
        self.running = 0
        """The pass that runs."""
        self._bring = bring
        self._put_away = put_away
        self._here: str | None = None
        self._waiting: dict[int, str | None] = {}
        self._baton: list[threading.Semaphore] = []
        self._back = threading.Semaphore(0)
        self._error: BaseException | None = None

    def run(self, count: int, work: Callable[[int], None]) -> None:
        """Call `work` with every index below `count`, each in its thread, and wait for all; raises what it raises.

        Raises:
            MergeError: the system starts no more threads.
        """
        self._waiting = dict.fromkeys(range(count))
        self._baton = [threading.Semaphore(0) for _ in range(count)]
        threads = [
            threading.Thread(target=self._pass, args=(index, work), daemon=True) for index in range(count)
        ]
        begun = 0
        try:
            for thread in threads:
                thread.start()
                begun += 1
            while self._waiting and self._error is None:
                self._step()
        except BaseException as error:  # noqa: BLE001 - raised below, when no pass runs any more
            self._error = error if begun == count else _too_many(count, begun, error)
        for index, thread in enumerate(threads[:begun]):
            if self._error is not None:
                self._baton[index].release()
            thread.join()
        if self._error is not None:
            raise self._error
        self._leave()

    def arrive(self, layer: str) -> None:
        """Go on when the weights of `layer` are there; called by the pass that runs."""
        if layer == self._here:
            return
        mine = self.running
        self._waiting[mine] = layer
        self._back.release()
        self._wait(mine)

    def _step(self) -> None:
        """Let one pass run on that can, or else bring the layer that the first one waits for."""
        ready = [index for index, layer in self._waiting.items() if layer in (None, self._here)]
        if not ready:
            first = min(self._waiting)
            self._leave()
            self._here = self._waiting[first]
            assert self._here is not None
            self._bring(self._here)
            return
        self.running = min(ready)
        del self._waiting[self.running]
        self._baton[self.running].release()
        self._back.acquire()

    def _leave(self) -> None:
        if self._here is not None:
            self._put_away(self._here)
            self._here = None

    def _pass(self, index: int, work: Callable[[int], None]) -> None:
        try:
            self._wait(index)
            work(index)
        except _StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - it is raised where the passes were begun
            self._error = error
        self._back.release()

    def _wait(self, index: int) -> None:
        self._baton[index].acquire()
        if self._error is not None:
            raise _StoppedError


def _too_many(count: int, begun: int, error: BaseException) -> BaseException:
    """What to raise where a thread cannot begin."""
    if not isinstance(error, RuntimeError):
        return error
    what = (
        f"the texts are {count} batches, each in a thread, and the system starts no more than {begun} threads"
    )
    return MergeError("E406", what, hint="allow more, such as with `ulimit -u`, or use fewer texts")


class _StoppedError(Exception):
    """Another pass has failed."""
