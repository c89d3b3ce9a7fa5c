"""How well a model that makes vectors of texts ranks pairs of texts by likeness; read `scores_of`.

The package sentence-transformers makes the vectors, of the folder of the model with its `modules.json`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mergecore import Evaluator, Field, InputError, Params, hookimpl
from mergecore.types import EvaluatedModel, EvaluationProgress, Score, Watch
from mergecore_contrib.evaluators import data
from mergecore_contrib.evaluators.extras import imported, versioned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

EXTRA = "sentence-transformers"


class SimilarityParams(Params):
    """The pairs, and how texts are made into vectors."""

    pairs: Path = Field(
        description="two texts and how alike they are: JSONL with a, b and score, or CSV, TSV in this order"
    )
    pooling: Literal["mean", "cls", "max", "lasttoken"] | None = Field(
        default=None, description="how tokens make a text; as the model's modules.json says by default"
    )
    prompt: str | None = Field(default=None, description="what stands before each text")
    limit: int | None = Field(
        default=None, ge=1, description="how many pairs to take at most; all by default"
    )
    batch_size: int = Field(default=32, ge=1, description="how many texts the model gets at once")


@hookimpl
def mergecore_evaluators() -> Iterator[Evaluator[Any]]:
    yield Evaluator(
        name="similarity",
        evaluate=scores_of,
        params=SimilarityParams,
        summary="rank correlation of vectors of texts with likeness",
        check=check,
        files=lambda params: (params.pairs, *versioned("sentence_transformers", EXTRA)),
    )


@dataclass(frozen=True)
class Pair:
    """Two texts, and how alike people find them."""

    one: str
    other: str
    likeness: float


def scores_of(model: EvaluatedModel, params: SimilarityParams, watch: Watch) -> Iterable[Score]:
    """Spearman's correlation of the cosine of the vectors with the likeness that is given.

    The correlation is the mean over all pairs of the product of their standardised ranks, which are the numbers of
    single samples.  Ranks are of all pairs, so those of a part of them are others.
    """
    import numpy as np

    pairs = _pairs(params)
    maker = _maker(model, params)
    options = {"batch_size": params.batch_size, "show_progress_bar": False, "prompt": params.prompt}
    one = np.asarray(maker.encode([pair.one for pair in pairs], **options), dtype=np.float64)  # (n, width)
    other = np.asarray(maker.encode([pair.other for pair in pairs], **options), dtype=np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    products = standardised(cosines) * standardised(np.array([pair.likeness for pair in pairs]))
    score = Score(
        name="spearman",
        value=float(products.mean()),
        goal="max",
        samples=len(pairs),
        per_sample=tuple(products.tolist()),
    )
    watch(EvaluationProgress(done=len(pairs), total=len(pairs), scores=(score,)))
    return (score,)


def check(params: SimilarityParams, models: Sequence[EvaluatedModel]) -> None:
    """Look at the package and the pairs.

    Raises:
        PluginError: E601 when sentence-transformers is not installed.
        InputError: E270 for pairs that cannot be read, or ranked.
    """
    imported("sentence_transformers", EXTRA)
    pairs = _pairs(params)
    if len({pair.likeness for pair in pairs}) < 2:
        hint = "give at least two pairs that are not equally alike"
        raise InputError(
            "E270",
            "all pairs are equally alike, so nothing can be ranked",
            place=str(params.pairs),
            hint=hint,
        )


def standardised(values: Vector) -> Vector:
    """The ranks of values, equal ones sharing their mean, with mean 0 and deviation 1; zeros if all are equal.

    Values that are not finite have no ranks: all are NaN.
    """
    import numpy as np

    if not np.isfinite(values).all():
        return np.full_like(values, np.nan)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts + 1) / 2)[inverse] + 1  # from 1
    spread = ranks.std()
    found: Vector = (ranks - ranks.mean()) / spread if spread else np.zeros_like(ranks)
    return found


def _maker(model: EvaluatedModel, params: SimilarityParams) -> Any:
    """What makes vectors of texts."""
    package = imported("sentence_transformers", EXTRA)
    folder = model.folder()
    if params.pooling is None:
        if not (folder / "modules.json").is_file():
            what = f"{model.name}: no modules.json says how its tokens make the vector of a text"
            raise InputError("E220", what, hint="set pooling, such as pooling: mean")
        return package.SentenceTransformer(str(folder), local_files_only=True)
    models = imported("sentence_transformers.models", EXTRA)
    tokens = models.Transformer(str(folder))
    pooled = models.Pooling(tokens.get_word_embedding_dimension(), params.pooling)
    return package.SentenceTransformer(modules=[tokens, pooled])


def _pairs(params: SimilarityParams) -> list[Pair]:
    file, what = params.pairs, "a pair of texts with a number"
    if file.suffix in (".jsonl", ".json"):
        found = data.rows(
            data.json_lines(file), _of_json, what, '{"a": "one text", "b": "another", "score": 0.5}'
        )
    else:
        found = data.rows(_of_table(file), _of_row, what, "two texts and a number")
    return data.limited(found, params.limit, file)


def _of_table(file: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """The rows of a table, without its head."""
    lines = csv.reader(data.text_of(file).split("\n"), delimiter="\t" if file.suffix == ".tsv" else ",")
    for row in lines:
        if row and not (lines.line_num == 1 and row[-1] == "score"):
            yield f"{file}:{lines.line_num}", row


def _of_json(value: object) -> Pair | None:
    if not isinstance(value, dict):
        return None
    score = value.get("score")
    return None if isinstance(score, str | bool) else _pair(value.get("a"), value.get("b"), score)


def _of_row(value: object) -> Pair | None:
    return _pair(*value) if isinstance(value, list) and len(value) == 3 else None


def _pair(one: object, other: object, score: Any) -> Pair | None:
    try:
        likeness = float(score)
    except (TypeError, ValueError):
        return None
    if isinstance(one, str) and isinstance(other, str) and math.isfinite(likeness):
        return Pair(one, other, likeness)
    return None
