"""The merge tools that are compared: how each is called, and what it wrote.

`find_tools` is what a run starts from. A tool is a command with places for config, output and threads.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT: Mapping[str, str] = {"HF_HUB_OFFLINE": "1"}
KNOWN = {"mergekit": "mergekit-yaml"}  # distribution: its command, looked up on PATH
PLACES = ("{config}", "{out}", "-j", "{threads}")  # what follows a command that names no places


@dataclass(frozen=True)
class Tool:
    """A merge tool: the words of its command, with `{config}`, `{out}` and, if it takes one, `{threads}`."""

    name: str
    words: tuple[str, ...]

    @property
    def takes_threads(self) -> bool:
        return any("{threads}" in word for word in self.words)

    def command(self, config: Path, out: Path, threads: int | None) -> list[str]:
        places = {"config": config, "out": out, "threads": threads}
        return [word.format(**places) for word in self.words]


@dataclass(frozen=True)
class Variant:
    """A tool with a number of threads; None is whatever the tool does by itself."""

    tool: Tool
    threads: int | None

    @property
    def label(self) -> str:
        return self.tool.name if self.threads is None else f"{self.tool.name} -j {self.threads}"


def mergecore(max_memory: str | None = None) -> Tool:
    """The mergecore of this interpreter."""
    budget = ("--max-memory", max_memory) if max_memory else ()
    return Tool("mergecore", (sys.executable, "-m", "mergecore", "merge", *PLACES, *budget))


def parse_tool(text: str) -> Tool:
    """The tool that `NAME=COMMAND` describes; a command without places gets `PLACES` appended."""
    name, equals, command = text.partition("=")
    words = tuple(shlex.split(command))
    if not (name and equals and words):
        raise ValueError(f"--tool {text!r}: expected NAME=COMMAND, as in mergekit=/path/to/bin/mergekit-yaml")
    if not any("{out}" in word for word in words):
        words += PLACES
    return Tool(name, words)


def find_tools(given: Iterable[str], max_memory: str | None = None) -> list[Tool]:
    """The tools to compare: mergecore, then those that were given, then known ones that are on PATH."""
    tools = [mergecore(max_memory), *(parse_tool(text) for text in given)]
    named = {tool.name for tool in tools}
    for name, executable in KNOWN.items():
        path = shutil.which(executable)
        if path and name not in named:
            tools.append(parse_tool(f"{name}={shlex.quote(path)}"))
    return tools


def variants(tools: Iterable[Tool], threads: Sequence[int]) -> list[Variant]:
    """Each tool with each number of threads, once if it takes none."""
    return [
        Variant(tool, count) for tool in tools for count in (list(threads) if tool.takes_threads else [None])
    ]


def version_of(tool: Tool) -> str:
    """The version of the tool's distribution by the Python beside its executable, or "unknown"."""
    python = Path(tool.words[0]).with_name("python")
    code = f"import importlib.metadata as m; print(m.version({tool.name!r}))"
    try:
        asked = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return asked.stdout.strip()


def fault_of(out: Path, expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """What the written folder lacks, or None if it holds every expected tensor in bf16 with its shape."""
    written: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in sorted(out.glob("*.safetensors")):
        written |= _header(file)
    wanted = {name: ("BF16", shape) for name, shape in expected.items()}
    bad = [name for name, entry in wanted.items() if written.get(name) != entry]
    if not bad:
        return None
    return f"{len(bad)} of {len(wanted)} tensors are missing or differ in shape or dtype, first {bad[0]}"


def _header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of the tensors of a file; nothing if the file is shorter than its header says."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entries = json.loads(stream.read(length))
    entries.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if file.stat().st_size < 8 + length + end:
        return {}
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
