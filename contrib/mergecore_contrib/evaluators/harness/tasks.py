"""Tasks of lm-eval: which there are, what files they are made of, and whether they can be used; read `check`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from yaml import YAMLError

from mergecore import ConfigError, InputError
from mergecore.errors import did_you_mean
from mergecore_contrib.evaluators.extras import imported, versioned
from mergecore_contrib.evaluators.harness.quiet import quiet

if TYPE_CHECKING:
    from mergecore_contrib.evaluators.lm_eval import LmEvalParams

EXTRA = "lm-eval"
READERS = frozenset(
    (
        "arrow",
        "audiofolder",
        "csv",
        "imagefolder",
        "json",
        "pandas",
        "parquet",
        "sql",
        "text",
        "webdataset",
        "xml",
    )
)
"""What stands as `dataset_path` in tasks whose data are files."""
SUFFIXES = frozenset(
    (".yaml", ".yml", ".py", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".arrow")
)
"""Files that can be part of a task."""
FAULTS = (OSError, ValueError, TypeError, LookupError, ImportError, AttributeError, YAMLError, TemplateError)
"""What lm-eval raises where a task is wrong."""


def manager(params: LmEvalParams) -> Any:
    """What finds and makes tasks: one's own, and those of lm-eval if they are needed, since there are thousands."""
    tasks = imported("lm_eval.tasks", EXTRA)
    folder = params.include_path
    with quiet():
        made = tasks.TaskManager(include_path=folder and str(folder), include_defaults=False)
        if _lacking(params.tasks, made.task_index):
            for name, entry in _of_lm_eval().items():
                made.task_index.setdefault(name, entry)
    return made


def unknown(params: LmEvalParams) -> Mapping[str, str]:
    """The tasks that there are not, with what their names are like."""
    known = manager(params).task_index
    lacking = [name for name in params.tasks if name not in known and not is_file(name)]
    return {name: did_you_mean(name, sorted(known)) for name in lacking}


@cache
def _of_lm_eval() -> Mapping[str, Any]:
    """The tasks that come with lm-eval."""
    found: Mapping[str, Any] = imported("lm_eval.tasks", EXTRA).TaskManager().task_index
    return found


def _lacking(names: Sequence[str], known: Mapping[str, Any]) -> bool:
    """Whether some of the tasks, or of the tasks in them, are not known."""
    found = [known.get(name) for name in names if not is_file(name)]
    inner = [str(one) for entry in found if entry for one in _inside(entry.cfg or {}) if isinstance(one, str)]
    return None in found or (bool(inner) and _lacking(inner, known)) or any(map(is_file, names))


def is_file(name: str) -> bool:
    """Whether a task is named by its file."""
    return name.endswith((".yaml", ".yml")) and Path(name).is_file()


def check(params: LmEvalParams) -> None:
    """Make every task, with its data.

    Raises:
        ConfigError: E105 for a task that cannot be made, or that runs code.
        InputError: E704 for data that are on the hub, which cannot be reached.
    """
    made = manager(params)
    errors = (*FAULTS, imported("datasets", EXTRA).exceptions.DatasetsError)
    for name in params.tasks:
        with quiet():
            try:
                loaded = made.load([name])
            except errors as error:
                raise _fault(name, error, params) from error
        for task in loaded["tasks"].values():
            _check_task(task, params)


def _check_task(task: Any, params: LmEvalParams) -> None:
    """Look at a task; lm-eval has made its first sample.

    Raises:
        ConfigError: E105 for one that runs code, or that needs another kind of model.
    """
    name = task.task_name
    if getattr(task, "UNSAFE_CODE", False) and not params.confirm_run_unsafe_code:
        what = f"the task '{name}' runs code that the model writes"
        raise ConfigError("E105", what, hint="confirm_run_unsafe_code: true allows it")
    if getattr(task, "MULTIMODAL", False) and params.backend == "hf":
        what = f"the task '{name}' shows pictures or sounds, which the backend hf cannot"
        raise ConfigError("E105", what, hint="name another one, such as backend: hf-multimodal")


def reason_of(error: Exception) -> str:
    """The first line of what an error says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def files(params: LmEvalParams) -> Iterator[Path]:
    """The files that tasks of one's own are made of, and one that tells the version of lm-eval."""
    found = {*versioned("lm_eval", EXTRA)}
    if params.include_path is not None:
        found |= {one for one in params.include_path.rglob("*") if one.suffix in SUFFIXES and one.is_file()}
    for named in (Path(name) for name in params.tasks if is_file(name)):
        found |= {named, *named.parent.glob("*.py")}
    for config in _configs(params):
        found |= {one for name in _data_files(config) if (one := Path(name)).is_file()}
        folder = Path(str(config.get("dataset_path") or "-"))
        if folder.is_dir():
            found |= {one for one in folder.rglob("*") if one.is_file()}
    yield from sorted(found)


def public(params: LmEvalParams) -> Iterator[str]:
    """The tasks whose data are on the hub, which anybody may have trained on."""
    for config in _configs(params):
        path = str(config.get("dataset_path") or "")
        if path and not _is_local(path):
            yield str(config.get("task") or config.get("group") or path)


def _configs(params: LmEvalParams) -> Iterator[Mapping[str, Any]]:
    """The settings of all tasks that are named, or are in a group or have a tag that is."""
    known, seen = manager(params).task_index, set[str]()
    todo: list[Any] = list(params.tasks)
    while todo:
        one = todo.pop(0)
        if isinstance(one, Mapping):
            yield one
            todo += _inside(one)
        elif str(one) not in seen:
            seen.add(str(one))
            entry = known.get(one)
            settings = (entry.cfg or {}) if entry else _of_file(str(one))
            yield settings
            todo += [*_inside(settings), *_tagged(entry)]


def _inside(settings: Mapping[str, Any]) -> list[Any]:
    """The tasks of a group."""
    inner = settings.get("task")
    return list(inner) if isinstance(inner, list | tuple) else []


def _tagged(entry: Any) -> list[str]:
    """The tasks that have a tag."""
    return sorted(entry.tags) if entry and entry.kind.name == "TAG" else []


def _of_file(name: str) -> Mapping[str, Any]:
    """The settings in a file; none where it is wrong, which `check` says."""
    if not is_file(name):
        return {}
    loader = imported("lm_eval.tasks._yaml_loader", EXTRA)
    try:
        found: Mapping[str, Any] = loader.load_yaml(Path(name), resolve_func=False, recursive=True)
    except FAULTS:
        return {}
    return found


def _data_files(config: Mapping[str, Any]) -> Iterator[str]:
    given = config.get("dataset_kwargs")
    value = given.get("data_files") if isinstance(given, Mapping) else None
    for one in value.values() if isinstance(value, Mapping) else [value]:
        yield from (str(name) for name in (one if isinstance(one, list | tuple) else [one]) if name)


def _is_local(path: str) -> bool:
    return path in READERS or Path(path).exists()


def _fault(name: str, error: Exception, params: LmEvalParams) -> ConfigError | InputError:
    reason = "it has no samples" if isinstance(error, IndexError) else reason_of(error)
    hubs = [
        path
        for one in _configs(params)
        if (path := str(one.get("dataset_path") or "")) and not _is_local(path)
    ]
    if hubs and _is_of_network(error):
        what = f"the data of the task '{name}' cannot be had: {reason}"
        hint = "they are on the hub: be online once, or take a task whose data are files"
        return InputError("E704", what, hint=hint)
    hint = "correct its YAML file; lm-eval looks for data_files in the folder that the command runs in"
    return ConfigError("E105", f"lm-eval cannot make the task '{name}': {reason}", hint=hint)


def _is_of_network(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    words = re.search(r"offline|connect|hub|network|resolve", str(error), re.IGNORECASE)
    return bool(words) or not names.isdisjoint({"ConnectionError", "DatasetNotFoundError", "HTTPError"})
