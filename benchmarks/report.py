"""Turns the measured runs into one line per method and tool, and the lines into a table and JSON.

Read `summarise`; how each figure is taken is in README.md beside this file.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

from benchmarks.measure import Usage
from benchmarks.pages import table

Kind = Literal["startup", "merge", "floor", "plan"]
Text = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Run:
    """One measured process. `label` is the tool with its threads, or what a floor does."""

    kind: Kind
    size: str
    method: str
    label: str
    repeat: int
    load: float  # load average of the last minute, before the run
    usage: Usage
    fault: str | None = None


@dataclass(frozen=True)
class Line:
    """Medians over the repeats of one method and tool; memory is the largest seen. Seconds, bytes, ns."""

    size: str
    method: str
    label: str
    repeats: int
    fault: str | None
    wall: float
    startup_wall: float
    cpu: float
    startup_cpu: float
    ns: float  # CPU time without start-up, per output parameter
    ns_low: float
    ns_high: float
    peak_anonymous: int
    peak_resident: int
    read_chars: int
    read_bytes: int
    written_chars: int
    write_bytes: int

    @property
    def tool(self) -> str:
        return self.label.partition(" -j ")[0]

    @property
    def threads(self) -> str:
        """The number of threads that was asked for, empty if none was."""
        return self.label.partition(" -j ")[2]

    @property
    def net_wall(self) -> float:
        return self.wall - self.startup_wall


def summarise(runs: Sequence[Run], parameters: Mapping[str, int]) -> list[Line]:
    """A line for each size, method and tool, as measured; `parameters` of a size is the true count."""
    keys = dict.fromkeys((run.size, run.method, run.label) for run in runs if run.kind == "merge")
    return [
        _line([run for run in runs if (run.size, run.method, run.label) == key], parameters[key[0]])
        for key in keys
    ]


def markdown(lines: Sequence[Line], runs: Sequence[Run], machine: Text, settings: Text) -> str:
    """The whole report."""
    return f"# Benchmark\n\n{tables(lines, runs, machine, settings)}\n"


def tables(lines: Sequence[Line], runs: Sequence[Run], machine: Text, settings: Text) -> str:
    """The report without its title."""
    parts = [_pairs(machine), _pairs(settings)]
    for size in dict.fromkeys(line.size for line in lines):
        chosen = [line for line in lines if line.size == size]
        parts += [f"## {size} parameters", _main_table(chosen)]
        parts += _section("Against mergecore", _against(chosen))
        parts += _section("Threads", _threads(chosen))
        parts += _section("Floor", _floor([run for run in runs if run.kind == "floor" and run.size == size]))
    parts += _section("Planning", _plans([run for run in runs if run.kind == "plan"]))
    return "\n\n".join(parts)


def as_json(lines: Sequence[Line], runs: Sequence[Run], machine: Text, settings: Text) -> str:
    """The lines and every single run. What a command printed is kept only where it failed."""
    singles = [asdict(run) for run in runs]
    for single in singles:
        if not single["fault"]:
            del single["usage"]["output_tail"]
    document = {
        "machine": machine,
        "settings": settings,
        "lines": [asdict(line) for line in lines],
        "runs": singles,
    }
    return json.dumps(document, indent=2) + "\n"


def _line(runs: Sequence[Run], parameters: int) -> Line:
    merges = [run for run in runs if run.kind == "merge"]
    startups = [run for run in runs if run.kind == "startup"]
    faults = [run.fault for run in (*startups, *merges) if run.fault]
    each = [
        (run.usage.cpu - before.usage.cpu) / parameters * 1e9
        for run, before in zip(merges, startups, strict=True)
    ]

    def middle(value: Callable[[Usage], float], kind: Sequence[Run] = merges) -> float:
        return median(value(run.usage) for run in kind)

    return Line(
        size=merges[0].size,
        method=merges[0].method,
        label=merges[0].label,
        repeats=len(merges),
        fault=faults[0] if faults else None,
        wall=middle(lambda usage: usage.wall),
        startup_wall=middle(lambda usage: usage.wall, startups),
        cpu=middle(lambda usage: usage.cpu),
        startup_cpu=middle(lambda usage: usage.cpu, startups),
        ns=median(each),
        ns_low=min(each),
        ns_high=max(each),
        peak_anonymous=max(run.usage.peak_anonymous for run in merges),
        peak_resident=max(run.usage.peak_resident for run in merges),
        read_chars=round(middle(lambda usage: usage.read_chars)),
        read_bytes=round(middle(lambda usage: usage.read_bytes)),
        written_chars=round(middle(lambda usage: usage.written_chars)),
        write_bytes=round(middle(lambda usage: usage.write_bytes)),
    )


def _main_table(lines: Iterable[Line]) -> str:
    head = (
        "method", "tool", "wall s", "of it start-up", "CPU s", "of it start-up", "CPU ns per parameter",
        "lowest to highest", "peak anonymous MB", "read GB", "from disk", "written GB",
    )  # fmt: skip
    return table(head, (_main_row(line) for line in lines))


def _main_row(line: Line) -> list[str]:
    if line.fault:
        return [line.method, line.label, f"**failed**: {line.fault}", *[""] * 9]
    return [
        line.method,
        line.label,
        f"{line.wall:.2f}",
        f"{line.startup_wall:.2f}",
        f"{line.cpu:.2f}",
        f"{line.startup_cpu:.2f}",
        f"**{line.ns:.1f}**",
        f"{line.ns_low:.1f} to {line.ns_high:.1f}",
        f"{line.peak_anonymous / 1e6:.0f}",
        f"{line.read_chars / 1e9:.2f}",
        f"{line.read_bytes / 1e9:.2f}",
        f"{line.written_chars / 1e9:.2f}",
    ]


def _against(lines: Sequence[Line]) -> str:
    """How many times more other tools use than mergecore with as many threads, or else with the most."""
    rows: list[list[str]] = []
    mine = [line for line in lines if line.tool == "mergecore" and not line.fault]
    for line in lines:
        ours = [other for other in mine if other.method == line.method]
        if line.tool == "mergecore" or line.fault or not ours:
            continue
        best = next((other for other in ours if other.threads == line.threads), ours[-1])
        rows.append([
            line.method,
            f"{line.label} / {best.label}",
            _times(line.ns, best.ns),
            _times(line.ns_low, best.ns_low),
            _times(line.net_wall, best.net_wall),
            _times(line.wall, best.wall),
        ])  # fmt: skip
    head = ("method", "tools", "CPU, no start-up", "the same, lowest", "wall, no start-up", "wall in all")
    return table(head, rows) if rows else ""


def _threads(lines: Sequence[Line]) -> str:
    """What more threads of one tool gain over the fewest, in wall time without start-up."""
    rows: list[list[str]] = []
    good = [line for line in lines if " -j " in line.label and not line.fault]
    for method, tool in dict.fromkeys((line.method, line.tool) for line in good):
        fewest, *more = [line for line in good if (line.method, line.tool) == (method, tool)]
        rows += [
            [method, f"{fewest.label} / {line.label}", _times(fewest.net_wall, line.net_wall)]
            for line in more
        ]
    return table(("method", "tools", "wall without start-up"), rows) if rows else ""


def _floor(runs: Sequence[Run]) -> str:
    groups = [
        [run for run in runs if run.label == label] for label in dict.fromkeys(run.label for run in runs)
    ]
    rows = [
        [
            group[0].fault or group[0].label,
            f"{median(run.usage.wall for run in group):.2f}",
            f"{median(run.usage.cpu for run in group):.2f}",
        ]
        for group in groups
    ]
    return table(("what", "wall s", "CPU s"), rows) if rows else ""


def _plans(runs: Sequence[Run]) -> str:
    rows = [
        [
            run.size,
            run.method,
            f"**failed**: {run.fault}" if run.fault else f"{run.usage.wall:.2f}",
            f"{run.usage.cpu:.2f}",
            f"{run.usage.peak_anonymous / 1e6:.0f}",
        ]
        for run in runs
    ]
    head = ("size of each model", "method", "wall s with start-up", "CPU s", "peak anonymous MB")
    return table(head, rows) if rows else ""


def _times(larger: float, smaller: float) -> str:
    """Their ratio, unless one of them is lost in the noise of the start-up that was taken off."""
    return f"{larger / smaller:.2f}x" if larger > 0 and smaller > 0 else "lost in noise"


def _section(title: str, body: str) -> list[str]:
    return [f"### {title}", body] if body else []


def _pairs(values: Text) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())
