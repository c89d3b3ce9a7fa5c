"""The evaluator `similarity`: ranks by hand, and vectors by sentence-transformers where that is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from refusals import refusal

from mergecore.errors import Problems
from mergecore.testing import check_evaluator, tiny_model
from mergecore_contrib.evaluators import similarity
from mergecore_contrib.evaluators.similarity import SimilarityParams, standardised
from mergecore_plugins.evaluation.models import opened

ROWS = [
    ("the hat", "a hat", 0.9),
    ("the tin", "that is it", 0.1),
    ("in the", "in it", 0.6),
    ("hat", "hat", 1.0),
]


def test_ranks_are_shared_by_equal_values_and_give_spearmans_correlation() -> None:
    """Ranks of 3, 1, 1, 9 are 3, 1.5, 1.5, 4: mean 2.5, deviation sqrt((0.25 + 1 + 1 + 2.25) / 4)."""
    spread = np.sqrt(4.5 / 4)
    ranks = standardised(np.array([3.0, 1.0, 1.0, 9.0]))
    assert ranks == pytest.approx(np.array([0.5, -1.0, -1.0, 1.5]) / spread)
    turned = standardised(np.array([-3.0, -1.0, -1.0, -9.0]))
    assert (ranks * turned).mean() == pytest.approx(-1)
    # 1 - 6 * sum of squared differences of ranks / (n (n² - 1)), for ranks 1 2 3 4 and 2 1 3 4: 1 - 12 / 60
    one, other = standardised(np.arange(4.0)), standardised(np.array([1.0, 0.0, 2.0, 3.0]))
    assert (one * other).mean() == pytest.approx(0.8)


def test_equal_values_have_no_rank() -> None:
    assert standardised(np.ones(3)).tolist() == [0, 0, 0]
    assert np.isnan(standardised(np.array([1.0, np.nan]))).all()


# ---- with sentence-transformers ----------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"a": a, "b": b, "score": score}) + "\n" for a, b, score in ROWS))
    return file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model", "bert", seed=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_score_is_that_of_sentence_transformers_and_scipy(
    model: Path, pairs: Path, tmp_path: Path
) -> None:
    package = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed: make lm-eval"
    )
    stats = pytest.importorskip("scipy.stats")
    params = SimilarityParams(pairs=pairs, pooling="mean")
    (score,) = similarity.scores_of(opened(model), params, lambda progress: None)
    tokens = package.models.Transformer(str(model))
    pooled = package.models.Pooling(tokens.get_word_embedding_dimension(), "mean")
    maker = package.SentenceTransformer(modules=[tokens, pooled])
    one, other = (maker.encode([row[side] for row in ROWS]) for side in (0, 1))
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(one, other, strict=True)]
    wanted = stats.spearmanr(cosines, [row[2] for row in ROWS]).statistic
    assert score.value == pytest.approx(wanted)
    assert (score.name, score.goal, score.samples) == ("spearman", "max", 4)
    maker.save(str(tmp_path / "whole"))
    own = SimilarityParams(pairs=pairs)
    (again,) = similarity.scores_of(opened(tmp_path / "whole"), own, lambda progress: None)
    assert again.value == pytest.approx(score.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_keeps_what_every_evaluator_has_to(model: Path, pairs: Path) -> None:
    pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed: make lm-eval"
    )
    (evaluator,) = similarity.mergecore_evaluators()
    check_evaluator(
        evaluator, params={"pairs": str(pairs), "pooling": "mean"}, model=model, without=["limit"]
    )


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_does_not_say_how_tokens_make_a_text_is_refused(model: Path, pairs: Path) -> None:
    pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed: make lm-eval"
    )
    params = SimilarityParams(pairs=pairs)
    said = refusal(lambda: similarity.scores_of(opened(model), params, lambda progress: None))
    assert "E220 " in said
    assert "no modules.json says how its tokens make the vector of a text" in said
    assert "set pooling, such as pooling: mean" in said


# ---- pairs, for which no package is needed -----------------------------------------------------------------


def check(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(similarity, "imported", lambda module, extra: None)
    return refusal(lambda: similarity.check(SimilarityParams(pairs=file), ()))


def test_a_table_says_the_same_as_lines_of_json(pairs: Path, tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text("a\tb\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in ROWS))
    assert similarity._pairs(SimilarityParams(pairs=table)) == similarity._pairs(
        SimilarityParams(pairs=pairs)
    )
    commas = tmp_path / "pairs.csv"
    commas.write_text('"a, b",c,0.5\n')
    assert similarity._pairs(SimilarityParams(pairs=commas)) == [similarity.Pair("a, b", "c", 0.5)]


@pytest.mark.parametrize(
    "line",
    [
        '{"a": "x", "b": "y"}',
        '{"a": 1, "b": "y", "score": 1}',
        "[1]",
        '{"a": "x", "b": "y", "score": "high"}',
        '{"a": "x", "b": "y", "score": true}',
    ],
)
def test_lines_that_are_not_pairs_are_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(f'{{"a": "x", "b": "y", "score": 1}}\n{line}\n')
    said = check(file, monkeypatch)
    assert said.startswith(f"E270 {file}:2: this is not a pair of texts with a number")
    assert 'Hint: write {"a": "one text", "b": "another", "score": 0.5}' in said


def test_files_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return check(tmp_path / name, monkeypatch)

    assert check(tmp_path / "none.csv", monkeypatch).startswith(f"E270 {tmp_path / 'none.csv'}: missing")
    latin = said("x.csv", b"a,b,1\n\xff\xfe")
    assert latin.startswith(f"E270 {tmp_path / 'x.csv'}:2: the file is not UTF-8")
    assert "save it as UTF-8" in latin
    assert "there are no samples. Hint: name a file that has some" in said("empty.csv", b"a,b,score\n")
    assert "write two texts and a number" in said("short.csv", b"one,two\n")
    assert "E270" in said("broken.jsonl", b"{\n")
    equal = said("equal.csv", b"a,b,1\nc,d,1\n")
    assert "all pairs are equally alike, so nothing can be ranked" in equal
    assert "give at least two pairs that are not equally alike" in equal


def test_all_wrong_lines_are_named_up_to_twenty(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("one\n" * 30)
    with pytest.raises(Problems) as caught:
        similarity._pairs(SimilarityParams(pairs=file))
    assert [str(one.place) for one in caught.value.errors] == [f"{file}:{line}" for line in range(1, 21)]
