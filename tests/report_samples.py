"""Plain values such as `mergecore evaluate` and `mergecore search` hand to their reports."""

from __future__ import annotations

from typing import Any

Values = dict[str, Any]


def evaluation(name: str = "mean.yml") -> Values:
    """A merge and its parents by two evaluators; one parent is within noise by the first, and has no second score."""
    results = [
        _result(name, 12.31, 11.8, 12.9, seconds=3.1),
        _result("a", 12.52, 11.9, 13.2, cached=True),
        _result("b", 19.5, 18.0, 21.0, seconds=2.0),
    ]
    differences = [
        _difference("a", name, 0.21, -0.05, 0.47, "within noise"),
        _difference("b", name, 7.2, 6.1, 8.4, "worse"),
    ]
    prose = {"name": "perplexity", "goal": "min", "results": results, "differences": differences}
    answers = [
        _result(name, 0.5, 0.4, 0.6, truncated=0.38, empty=0.01, seconds=9.0),
        {"model": "a", "value": None, "why": "it has no tokenizer"},
        _result("b", 0.75, 0.65, 0.85, truncated=0.0, empty=0.0, seconds=9.5),
    ]
    match = {"name": "arithmetic", "goal": "max", "results": answers, "differences": []}
    texts = {"texts": "dev.txt", "stride": None}
    return {
        "device": "cpu",
        "against": name,
        "models": [
            {"name": name, "merge": True, "parents": ["a", "b"]},
            *({"name": one, "merge": False, "parents": []} for one in ("a", "b")),
        ],
        "evaluations": [
            {
                "name": "prose",
                "evaluator": "perplexity",
                "params": texts,
                "scores": [prose],
            },
            {"name": "arithmetic", "evaluator": "match", "params": {}, "scores": [match]},
        ],
        "warnings": [f"arithmetic: 38 % of the answers of {name} are cut off"],
    }


def _result(model: str, value: float, low: float, high: float, **more: object) -> Values:
    return {"model": model, "value": value, "low": low, "high": high, "samples": 120, **more}


def _difference(model: str, against: str, value: float, low: float, high: float, words: str) -> Values:
    within = low < 0 < high
    bounds = {"value": value, "low": low, "high": high}
    return {"model": model, "against": against, "within_noise": within, "words": words, **bounds}


def search(objectives: int = 1, name: str = "weight") -> Values:
    """Six trials: two starting points, three points of which one was pruned, and one that failed."""
    scores = [-0.5, -0.3, -0.4, None, -0.1, None]
    second = [0.5, 0.9, 0.1, None, 0.7, None]
    states = ["complete", "complete", "complete", "pruned", "complete", "failed"]
    goals = ["max", "min"][:objectives]
    trials = []
    for i, state in enumerate(states):
        kind = "average" if i == 0 else "parent" if i == 1 else "point"
        point = {name: 0.1 * i, "method": ["ties", "linear"][i % 2]} if kind == "point" else {}
        values = [scores[i], second[i]][:objectives]
        known = [{"value": one, "samples": 60} for one in values if one is not None]
        trials.append(
            {
                "number": i,
                "kind": kind,
                "name": f"point {i}" if kind == "point" else ["average", "a"][i],
                "state": state,
                "point": point,
                "values": [
                    one["value"] * (-1 if goal == "min" else 1)
                    for one, goal in zip(known, goals, strict=False)
                ],
                "scores": known,
                "seconds": 1.5,
                "error": "out of memory" if state == "failed" else "",
            }
        )
    table = [_row(f"point {4}", [-0.12, 0.7][:objectives], [])]
    over_average = [_gain(0.4, 0.3, 0.5, "better"), _gain(-0.1, -0.2, 0.1, "within noise")]
    over_a = [_gain(0.01, -0.1, 0.12, "within noise"), _gain(0.25, 0.2, 0.3, "better")]
    table.append(_row("average", [-0.52, 0.6][:objectives], over_average[:objectives]))
    table.append(_row("a", [-0.13, 0.95][:objectives], over_a[:objectives]))
    return {
        "config": "s.yml",
        "search": {"sampler": {"name": "tpe", "seed": None}, "trials": 4, "prune": True, "start": []},
        "dimensions": [
            {"name": name, "low": 0, "high": 1},
            {"name": "method", "choices": ["ties", "linear"]},
        ],
        "objectives": [
            {"name": one, "goal": goal} for one, goal in zip(["near", "far"], goals, strict=False)
        ],
        "trials": trials,
        "best": {"number": 4, "point": {name: 0.4, "method": "ties"}},
        "front": [2, 4],
        "importance": {name: 0.3, "method": 0.6},
        "table": table,
        "held_out": True,
        "verdict": {
            "beats_average": True,
            "why": "on the data held out, the best point is better than the average",
        },
        "recommended": "best",
        "notes": [],
    }


def _row(name: str, values: list[float], gains: list[Values]) -> Values:
    scores = [
        {"name": "", "value": value, "samples": 60, "truncated": None, "empty": None} for value in values
    ]
    return {"kind": "point", "name": name, "scores": scores, "best_is_better_by": gains}


def _gain(mean: float, low: float, high: float, words: str) -> Values:
    return {"mean": mean, "low": low, "high": high, "words": words}
