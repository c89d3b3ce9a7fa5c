"""Checks of tokenizer strategies; read `check_tokenizer_strategy`, then `STRATEGY`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import safe_open

from mergecore.errors import ConfigError, InputError, MergecoreError, PolicyError
from mergecore.files.strict_json import parse_mapping
from mergecore.pipeline.folders import merge
from mergecore.pipeline.plans import planner
from mergecore.plugins.registry import Registry
from mergecore.testing.checkpoints import tiny_model
from mergecore.testing.findings import NotCheckedError, Property, demand, hold
from mergecore.testing.registries import registry_with
from mergecore.tokenizers.read import VocabularyReader
from mergecore.types import Checkpoint, Description, Json, TokenizerRequest, TokenizerStrategy, Vocabulary
from mergecore.types.params import Params


def check_tokenizer_strategy(
    strategy: TokenizerStrategy[Any],
    *models: Path | str,
    params: Params | Mapping[str, Json] | None = None,
    source: Path | str | None = None,
    registry: Registry | None = None,
    without: Collection[str] = (),
) -> None:
    """Check the vocabulary that a strategy makes of models, and that a merge with it fits together.

    models: folders of models with tokenizers, the base first; None for two tiny Llamas of which each has a token
        that the other lacks.
    params: its parameters; None for the defaults.
    source: the model whose vocabulary is asked for, for a strategy with such a parameter; None for the last one.

    Raises:
        AssertionError: what does not hold, for which case and what to do.
    """
    with strategy_case(strategy, models, params, source, registry) as case:
        hold(f"tokenizer strategy '{strategy.name}'", STRATEGY, case, without)


@dataclass
class StrategyCase:
    """A strategy with its parameters, and models for it."""

    strategy: TokenizerStrategy[Any]
    params: Params
    models: Sequence[Path]
    source: Path | None
    registry: Registry
    folder: Path

    @cached_property
    def request(self) -> TokenizerRequest:
        """What the strategy decides from."""
        opener = planner(registry=self.registry)
        models = tuple(opener.open(str(one)) for one in self.models)
        wanted = self.source if self.strategy.source != "unused" else None
        return TokenizerRequest(
            models=models,
            primary=0,
            descriptions=tuple(opener.describe(one) for one in models),
            source=None if wanted is None else _one_of(models, wanted) or opener.open(str(wanted)),
            read=VocabularyReader().read,
        )

    @cached_property
    def built(self) -> Vocabulary:
        """What the strategy decides."""
        return self.build()

    def build(self) -> Vocabulary:
        """What the strategy decides, made anew."""
        made = self.strategy.build(self.request, self.params)
        demand(isinstance(made, Vocabulary), f"`build` returns {type(made).__name__}; return a Vocabulary")
        return made


def _one_of(models: Sequence[Checkpoint], folder: Path) -> Checkpoint | None:
    return next((one for one in models if one.folder == folder.resolve() or one.name == str(folder)), None)


@contextmanager
def strategy_case(
    strategy: TokenizerStrategy[Any],
    models: Sequence[Path | str] = (),
    params: Params | Mapping[str, Json] | None = None,
    source: Path | str | None = None,
    registry: Registry | None = None,
) -> Iterator[StrategyCase]:
    """A case for `STRATEGY`."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        given = [Path(one) for one in models] or [
            tiny_model(folder / "first", seed=1, tokens=["<one>"]),
            tiny_model(folder / "second", seed=2, tokens=["<two>", "<three>"]),
        ]
        made = params if isinstance(params, Params) else strategy.params.model_validate(dict(params or {}))
        chosen = Path(source) if source else given[-1]
        registry = registry or registry_with(TokenizerStrategy, strategy)
        case = StrategyCase(strategy, made, given, chosen, registry, folder)
        yield case if models else _that_is_not_refused(case)


def _that_is_not_refused(case: StrategyCase) -> StrategyCase:
    """The case, or one of models with a single vocabulary where the strategy takes no others, or moves no rows."""
    try:
        moves_rows = any(rows is not None for rows in case.build().rows)
    except (ConfigError, InputError, PolicyError):
        moves_rows = False  # it takes no models with other tokens
    except Exception:  # noqa: BLE001 - it is found again, and told, by the first property
        return case
    if moves_rows:
        return case
    same = [tiny_model(case.folder / f"same{seed}", seed=seed) for seed in (1, 2)]
    return replace(case, models=same, source=same[-1])


def _builds(case: StrategyCase) -> None:
    made = case.built
    demand(made.files, "the vocabulary has no files; return those that define it, such as tokenizer.json")


def _builds_the_same(case: StrategyCase) -> None:
    first, second = _plain(case.built), _plain(case.build())
    demand(first == second, "built twice, the vocabulary is another one; sort what has no order of its own")


def _plain(made: Vocabulary) -> Vocabulary:
    """A vocabulary that can be compared."""
    return replace(made, rows=tuple(None if one is None else tuple(map(int, one)) for one in made.rows))


def _leaves_models_alone(case: StrategyCase) -> None:
    before = [dict(one.side_files) for one in case.request.models]
    contents = {path: path.read_bytes() for one in before for path in one.values()}
    case.build()
    demand(
        [dict(one.side_files) for one in case.request.models] == before
        and all(path.is_file() and path.read_bytes() == content for path, content in contents.items()),
        "it changes the models or their files; make new bytes in place of that",
    )


def _files_are_named(case: StrategyCase) -> None:
    for name, content in case.built.files.items():
        check_file(name, content)


def check_file(name: str, content: Path | bytes) -> None:
    """Check a file that is to lie beside the weights."""
    path = PurePosixPath(name)
    demand(
        name and not path.is_absolute() and ".." not in path.parts and "\\" not in name,
        f"the name of the file '{name}' leads out of the folder; name it relative to the output",
    )
    if isinstance(content, Path):
        demand(content.is_file(), f"the file '{name}' is to be copied from {content}, which is not there")
    else:
        kind = type(content).__name__
        demand(kind == "bytes", f"the content of '{name}' is {kind}; bytes or a path are expected")


def _ids_are_whole(case: StrategyCase) -> None:
    made = case.built
    ids = list(made.ids.values())
    demand(len(ids) == len(set(ids)), "two tokens of `ids` have one id")
    demand(all(one >= 0 for one in ids), "an id of `ids` is negative")
    if made.size is not None:
        demand(
            max(ids, default=-1) < made.size,
            f"`ids` has the id {max(ids, default=-1)}, and `size` is {made.size}; it counts the ids",
        )


def _rows_fit(case: StrategyCase) -> None:
    made, models = case.built, (*case.request.models, *case.request.token_models)
    if not made.rows:
        raise NotCheckedError("it moves no rows")
    demand(
        len(made.rows) == len(models),
        f"`rows` has {len(made.rows)} entries for {len(models)} models; there is one for each, perhaps None",
    )
    for model, rows in zip(models, made.rows, strict=True):
        if rows is None:
            continue
        demand(
            made.size is None or len(rows) == made.size,
            f"`rows` of {model.name} has {len(rows)} entries, and `size` is {made.size}",
        )
        count = int(str(model.config.get("vocab_size", 0)))
        for row in map(int, rows):
            demand(
                row >= -1 and (not count or row < count),
                f"`rows` of {model.name} has the row {row}, and its tensors have {count} rows; -1 stands for none",
            )


def _rows_are_of_their_tokens(case: StrategyCase) -> None:
    made, asked = case.built, case.request
    if not made.rows or not made.ids:
        raise NotCheckedError("it moves no rows")
    for model, description, rows in zip(asked.models, asked.descriptions, made.rows, strict=False):
        table = asked.read(model)
        if rows is None or table is None:
            continue
        count = _rows_of(model, description)
        for token, number in made.ids.items():
            row = int(rows[number]) if number < len(rows) else -1
            own = table.ids.get(token, -1)
            own = -1 if count is not None and own >= count else own
            demand(
                row == own,
                f"the token '{token}' gets {f'row {row}' if row >= 0 else 'no row'} of {model.name}, "
                f"where it {f'has row {own}' if own >= 0 else 'has none'}",
            )


def _rows_of(model: Checkpoint, description: Description) -> int | None:
    """How many rows the tensors of a model have for tokens; None where no tensor is known to have any."""
    axes = {name: facts.vocabulary_axis for name, facts in description.tensors.items()}
    return max(
        (model.tensors[name].shape[axis] for name, axis in axes.items() if axis is not None), default=None
    )


def _merge(case: StrategyCase) -> Path:
    tokenizer: dict[str, Json] = {
        "strategy": case.strategy.name,
        **case.params.model_dump(exclude_defaults=True),
    }
    if case.source is not None and case.strategy.source != "unused":
        tokenizer["source"] = str(case.source)
    config: dict[str, Any] = {
        "merge_method": "linear",
        "base_model": str(case.models[0]),
        "models": [{"model": str(one), "parameters": {"weight": 1}} for one in case.models],
        "tokenizer": tokenizer,
    }
    return merge(config, case.folder / "out", registry=case.registry)


def _merges(case: StrategyCase) -> None:
    try:
        out = _merge(case)
    except MergecoreError as error:
        raise AssertionError(f"a merge with it fails: {error}") from error
    known = planner(registry=case.registry)
    table = known.vocabulary(known.open(str(out)))
    size = parse_mapping((out / "config.json").read_bytes(), code="E220").get("vocab_size")
    said = size if isinstance(size, int) else 0
    with safe_open(out / "model.safetensors", "pt") as weights:
        names = [name for name in weights.keys() if "embed_tokens" in name]  # noqa: SIM118 - it is not a mapping
        rows = weights.get_slice(names[0]).get_shape()[0] if names else said
    demand(
        rows == size,
        f"a merge with it has {rows} rows of embeddings, and its config counts {size} tokens",
    )
    largest = max(table.ids.values(), default=-1) if table else -1
    demand(
        largest < rows,
        f"the tokenizer of a merge with it has the id {largest}, and there are {rows} rows of embeddings",
    )
    if case.built.ids and table:
        differing = [token for token, number in case.built.ids.items() if table.ids.get(token) != number]
        demand(
            not differing,
            f"`ids` and the files disagree about {len(differing)} tokens, such as '{min(differing, default='')}'",
        )


STRATEGY: Sequence[Property[StrategyCase]] = (
    Property("build", "it makes a vocabulary", _builds),
    Property("same", "made again, it is the same", _builds_the_same),
    Property("inputs", "models and their files stay as they are", _leaves_models_alone),
    Property("files", "files are named, and are there", _files_are_named),
    Property("ids", "ids are whole and counted", _ids_are_whole),
    Property("rows", "rows are those of the tensors", _rows_fit),
    Property("tokens", "a token gets the row of that token", _rows_are_of_their_tokens),
    Property("merge", "a merge fits together: tokenizer, rows and config", _merges),
)
"""What every strategy keeps."""
