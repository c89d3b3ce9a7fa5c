"""Tasks of lm-eval in files, one of each kind of request, and tiny models that can be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

QUESTIONS = ("the", "a tin", "in the", "that is it", "it is the", "a hat", "the tin is", "hat in")


def write_tasks(folder: Path) -> Path:
    """The folder with a task that picks one of three texts, one that generates, and two that read."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data.jsonl"
    rows = [
        {"q": question, "options": ["hat", "bath", "the tin"], "gold": number % 3, "next": " hat in"}
        for number, question in enumerate(QUESTIONS)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    write_task(
        folder,
        "pick",
        output_type="multiple_choice",
        doc_to_choice="{{options}}",
        doc_to_target="gold",
        metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}],
    )
    write_task(
        folder,
        "say",
        output_type="generate_until",
        doc_to_target="{{next}}",
        generation_kwargs={"until": ["\n", "th"], "max_gen_toks": 6},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    write_task(
        folder,
        "go_on",
        output_type="loglikelihood",
        doc_to_target="{{next}}",
        metric_list=[
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    )
    write_task(
        folder,
        "read",
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{q}}{{next}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    )
    return folder


def write_task(folder: Path, name: str, **more: Any) -> Path:
    """The file of a task over `data.jsonl` of its folder."""
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "data.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{q}}",
        **more,
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(task), encoding="utf8")
    return file
