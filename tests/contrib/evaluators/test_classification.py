"""The evaluator `classification`: images and texts, with accuracies counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import refusal
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from mergecore.testing import check_evaluator, tiny_model
from mergecore.types import EvaluationProgress, Score
from mergecore_contrib.evaluators import classification
from mergecore_contrib.evaluators.classification import ClassificationParams
from mergecore_plugins.commands.demo.digits import load_split
from mergecore_plugins.commands.demo.scoring import accuracies, load
from mergecore_plugins.evaluation.models import opened

IMAGES = 12


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A tiny vision transformer with the ten classes of the digits."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10}
    config = ViTConfig(**sizes)
    ViTForImageClassification(config).save_pretrained(tmp_path / "reader")
    return tmp_path / "reader"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Some digits of 0 to 16, as scikit-learn has them."""
    digits = load_split().test[:IMAGES]
    file = tmp_path / "digits.npz"
    np.savez(file, images=(digits.images * 16).numpy().astype(np.uint8), labels=digits.labels.numpy())
    return file


def scores(
    model: Path, params: ClassificationParams, told: list[EvaluationProgress] | None = None
) -> list[Score]:
    watch = (lambda progress: None) if told is None else told.append
    return list(classification.scores_of(opened(model), params, watch))


def test_images_have_the_accuracy_that_the_demo_counts(reader: Path, images: Path) -> None:
    accuracy, loss = scores(reader, ClassificationParams(images=images, divide_by=16, batch_size=5))
    wanted = accuracies(load(reader), load_split().test[:IMAGES], ["identity"])["identity"]
    assert 100 * accuracy.value == pytest.approx(wanted)
    assert (accuracy.samples, accuracy.goal, loss.goal) == (IMAGES, "max", "min")
    logits = load(reader)(pixel_values=load_split().test[:IMAGES].images.unsqueeze(1)).logits.double()
    own = -logits.log_softmax(dim=1)[torch.arange(IMAGES), load_split().test[:IMAGES].labels]
    assert loss.per_sample == pytest.approx(own.tolist(), abs=1e-5)


def test_it_tells_the_scores_of_what_is_done(reader: Path, images: Path) -> None:
    told: list[EvaluationProgress] = []
    last = scores(reader, ClassificationParams(images=images, batch_size=5), told)
    assert [(one.done, one.total) for one in told] == [(5, 12), (10, 12), (12, 12)]
    assert told[0].scores[0].per_sample == last[0].per_sample[:5]
    assert tuple(last) == told[-1].scores


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """A tiny BERT that calls every text good: its head is 0 but for a bias."""
    folder = tiny_model(tmp_path / "judge", "bert")
    config = BertConfig.from_pretrained(folder)
    config.id2label, config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 2.0]))
    model.save_pretrained(folder)
    return folder


def write_lines(file: Path, *rows: object) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return file


def test_texts_are_compared_by_the_number_or_the_name_of_their_class(judge: Path, tmp_path: Path) -> None:
    """Two of three are good; log(1 + exp(-2)) is the loss of these, and 2 more that of the other one."""
    rows = [
        {"text": "the hat", "label": "good"},
        {"text": "in", "label": 1},
        {"text": "is it", "label": "bad"},
    ]
    file = write_lines(tmp_path / "texts.jsonl", *rows)
    accuracy, loss = scores(judge, ClassificationParams(texts=file))
    assert accuracy.per_sample == (1.0, 1.0, 0.0)
    low = float(np.log1p(np.exp(-2)))
    assert loss.per_sample == pytest.approx((low, low, 2 + low), abs=1e-6)
    (first, _) = scores(judge, ClassificationParams(texts=file, limit=1))
    assert (first.value, first.samples) == (1.0, 1)


def test_it_keeps_what_every_evaluator_has_to(reader: Path, images: Path) -> None:
    (evaluator,) = classification.mergecore_evaluators()
    check_evaluator(evaluator, params={"images": str(images), "divide_by": 16}, model=reader)


# ---- what is refused ---------------------------------------------------------------------------------------


def check(**values: Any) -> str:
    return refusal(lambda: classification.check(ClassificationParams(**values), ()))


def test_both_or_none_of_images_and_texts_are_refused(images: Path) -> None:
    assert "classification takes images or texts, and just one of them" in check()
    assert "set images: FILE.npz or texts: FILE.jsonl" in check(images=images, texts=images)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    none = check(images=tmp_path / "none.npz")
    assert none.startswith(f"E270 {tmp_path / 'none.npz'}: missing")
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    assert "it is not an .npz file with the arrays images and labels" in check(images=tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", images=np.zeros((2, 3)), labels=np.zeros(2))
    bad = check(images=tmp_path / "y.npz")
    assert "these are not images and labels: [2, 3], [2] of float64" in bad
    assert "images: (n, height, width) or (n, channels, height, width)" in bad
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe\xff")
    assert "the file is not UTF-8" in check(texts=tmp_path / "latin.jsonl")
    assert "there are no samples" in check(texts=write_lines(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize(
    "row", [{"text": "a"}, {"text": 3, "label": 1}, {"text": "a", "label": True}, ["a", 1], 7]
)
def test_lines_that_are_not_samples_are_refused(row: object, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "texts.jsonl", {"text": "a", "label": 0}, row)
    said = check(texts=file)
    assert said.startswith(f"E270 {file}:2: this is not a text with its class")
    assert 'Hint: write {"text": "a text", "label": "its class"}' in said


def test_classes_that_the_model_does_not_have_are_refused(judge: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "texts.jsonl", {"text": "hat", "label": "god"})
    said = refusal(lambda: scores(judge, ClassificationParams(texts=file)))
    assert "the model has no class 'god'; did you mean 'good'?" in said
    assert "write the number of a class, or its name in config.json" in said
    write_lines(file, {"text": "hat", "label": 2})
    assert "the model has no class 2" in refusal(lambda: scores(judge, ClassificationParams(texts=file)))


def test_models_that_are_not_classifiers_are_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "texts.jsonl", {"text": "hat", "label": 0})
    talker = tiny_model(tmp_path / "talker")
    said = refusal(lambda: scores(talker, ClassificationParams(texts=file)))
    assert "E224 " in said
    assert "LlamaForCausalLM does not put things into classes" in said
    assert "Hint: evaluate a classifier" in said
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tiny_model(tmp_path / "one", "bert"), num_labels=1)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "one")
    said = refusal(lambda: scores(tmp_path / "one", ClassificationParams(texts=file)))
    assert "it has one class only" in said


def test_samples_that_the_model_cannot_take_are_refused(reader: Path, tmp_path: Path) -> None:
    file = tmp_path / "large.npz"
    np.savez(file, images=np.zeros((2, 9, 9)), labels=np.zeros(2, dtype=int))
    said = refusal(lambda: scores(reader, ClassificationParams(images=file)))
    assert said.startswith(f"E270 {file}: ")
    assert "cannot take these samples: " in said
    assert "give it what its config.json says" in said


def test_texts_without_a_token_for_padding_are_read_one_by_one(tmp_path: Path) -> None:
    """The same as each text by itself, in a batch or not; long ones are cut at what the model has places for."""
    folder = tiny_model(tmp_path / "talker")
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(folder, num_labels=3)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    long = "the hat in " * 200
    file = write_lines(
        tmp_path / "texts.jsonl", *({"text": text, "label": 0} for text in ("hat", "in the", long))
    )
    together, single = (
        scores(folder, ClassificationParams(texts=file, batch_size=size))[1] for size in (3, 1)
    )
    assert together.per_sample == pytest.approx(single.per_sample)
