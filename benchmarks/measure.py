"""Runs one command in a fresh process and says what it used: time, memory, bytes. It reads Linux's /proc.

Read `measure`; the parsers below it take the text of files in /proc.
"""

import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SAMPLE_SECONDS = 0.02
TAIL_BYTES = 4000
PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """Bytes in use: anonymous memory, and the whole resident set with mapped files."""

    anonymous: int
    resident: int


@dataclass(frozen=True)
class Usage:
    """What a command and the processes it started and waited for used. Times in seconds, sizes in bytes."""

    exit_code: int
    wall: float
    user: float
    system: float
    peak_anonymous: int  # largest sampled sum of RssAnon over the process tree
    peak_resident: int  # the same of VmRSS: mapped files included
    read_chars: int  # through read calls, from the cache or the disk; not what is read from a mapping
    written_chars: int
    read_bytes: int  # from the disk, mappings included
    write_bytes: int
    page_faults: int
    output_tail: str

    @property
    def cpu(self) -> float:
        return self.user + self.system


def measure(
    command: Sequence[str], environment: Mapping[str, str] | None = None, timeout: float = 3600.0
) -> Usage:
    """What `command` used until it ended. One that is still running after `timeout` seconds is killed."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # so that the whole group can be killed
        )
        sampler = _Sampler(process.pid)
        killer = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        sampler.start()
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in /proc
            wall = time.perf_counter() - started
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            killer.cancel()
            sampler.stop()
        counters = parse_io((PROC / str(process.pid) / "io").read_text())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return _usage(process.returncode, wall, used, sampler.peak, counters, _tail(output))


def parse_memory(status: str) -> Memory:
    """Memory by the text of /proc/PID/status; none for a process that has ended."""
    pairs = (line.split(":", 1) for line in status.splitlines())
    sizes = {name: int(text.split()[0]) * 1024 for name, text in pairs if name in ("RssAnon", "VmRSS")}
    return Memory(sizes.get("RssAnon", 0), sizes.get("VmRSS", 0))


def parse_io(text: str) -> dict[str, int]:
    """The counters of /proc/PID/io."""
    pairs = (line.split(":") for line in text.splitlines())
    return {name: int(value) for name, value in pairs}


def memory_of_tree(pid: int) -> Memory:
    """Memory of a process and all its descendants together, at this moment."""
    members = [_memory(member) for member in _tree(pid)]
    return Memory(sum(one.anonymous for one in members), sum(one.resident for one in members))


class _Sampler(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = Memory(0, 0)
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            now = memory_of_tree(self._pid)
            self.peak = Memory(max(self.peak.anonymous, now.anonymous), max(self.peak.resident, now.resident))
            self._ended.wait(SAMPLE_SECONDS)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        lists = [path.read_text() for path in (PROC / str(pid) / "task").glob("*/children")]
    except OSError:  # ended between two looks
        return
    for child in " ".join(lists).split():
        yield from _tree(int(child))


def _memory(pid: int) -> Memory:
    try:
        return parse_memory((PROC / str(pid) / "status").read_text())
    except OSError:  # ended between two looks
        return Memory(0, 0)


def _tail(output: BinaryIO) -> str:
    end = output.seek(0, os.SEEK_END)
    output.seek(max(0, end - TAIL_BYTES))
    return output.read().decode(errors="replace")


def _usage(
    exit_code: int,
    wall: float,
    used: resource.struct_rusage,
    peak: Memory,
    counters: Mapping[str, int],
    tail: str,
) -> Usage:
    return Usage(
        exit_code=exit_code,
        wall=wall,
        user=used.ru_utime,
        system=used.ru_stime,
        peak_anonymous=peak.anonymous,
        peak_resident=peak.resident,
        read_chars=counters["rchar"],
        written_chars=counters["wchar"],
        read_bytes=counters["read_bytes"],
        write_bytes=counters["write_bytes"],
        page_faults=used.ru_minflt + used.ru_majflt,
        output_tail=tail,
    )
