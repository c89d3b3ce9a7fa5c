"""Pages about evaluations and searches: every sentence is true, and every number is in a table."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
import report_samples as samples

from mergecore_plugins.reports import evaluation_report, search_report

EVIL = "<img src=x onerror=alert(1)>\"'&"


def text_of(page: str) -> str:
    """What can be read, without scripts and styles."""
    body = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def rows(page: str) -> list[list[str]]:
    return [
        [unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    ]


# ---- evaluations -------------------------------------------------------------------------------------------


def test_the_best_model_is_named_with_those_that_chance_may_explain() -> None:
    text = text_of(evaluation_report(samples.evaluation()))
    assert (
        "prose: perplexity, lower is better: the best is mean.yml with 12.31; within noise of it: a." in text
    )
    assert "arithmetic, higher is better: the best is b with 0.75." in text
    assert "1 of 2 differences is within noise" in text
    assert "a has no score: it has no tokenizer." in text
    assert "38 % of the answers of mean.yml are cut off" in text


@pytest.mark.parametrize(
    ("few", "words"),
    [
        (
            (),
            "1 of 2 differences is within noise: there the interval, of paired samples, has zero in it, and",
        ),
        ((0, 1), "2 of 2 differences are within noise: there the samples are too few for an interval, and"),
        (
            (1,),
            "2 of 2 differences are within noise: there the interval, of paired samples, has zero in it, "
            "or the samples are too few for an interval, and",
        ),
    ],
)
def test_noise_is_explained_by_an_interval_only_where_there_is_one(few: tuple[int, ...], words: str) -> None:
    found = samples.evaluation()
    for i in few:
        one = found["evaluations"][0]["scores"][0]["differences"][i]
        one.update(low=None, high=None, within_noise=True, words="within noise: 3 samples are too few")
    assert f"{words} the dot is empty." in text_of(evaluation_report(found))


def test_scores_have_a_row_each_and_columns_that_say_something() -> None:
    found = rows(evaluation_report(samples.evaluation()))
    assert ["model", "perplexity", "from", "to", "samples", "seconds"] in found
    assert ["mean.yml", "12.31", "11.8", "12.9", "120", "3.1"] in found
    assert ["a", "12.52", "11.9", "13.2", "120", "cached"] in found
    assert ["b", "7.2", "6.1", "8.4", "worse"] in found
    assert ["mean.yml", "0.5", "0.4", "0.6", "120", "38 %", "1 %", "9"] in found
    assert ["prose", "perplexity", "texts: dev.txt"] in found


def test_one_model_alone_has_no_best() -> None:
    found = samples.evaluation()
    for evaluation in found["evaluations"]:
        for score in evaluation["scores"]:
            score["results"] = score["results"][:1]
            score["differences"] = []
    text = text_of(evaluation_report(found))
    assert "prose: perplexity, lower is better: mean.yml has 12.31." in text


def test_whiskers_stand_where_the_intervals_are() -> None:
    """Numbers grow to the right: the ends of the first whisker, relative to the dots, are those of the interval."""
    page = evaluation_report(samples.evaluation())
    svg = page[page.index("<svg") : page.index("</svg>")]
    dots = [float(one) for one in re.findall(r'cx="([0-9.]+)"', svg)]
    ends = [
        (float(a), float(b)) for a, b in re.findall(r'<path class="l" d="M([0-9.]+) [0-9.]+H([0-9.]+)M', svg)
    ]
    scale = (dots[2] - dots[0]) / (19.5 - 12.31)
    for (low, high), (a, b) in zip(ends, [(11.8, 12.9), (11.9, 13.2), (18.0, 21.0)], strict=True):
        assert low == pytest.approx(dots[0] + (a - 12.31) * scale, abs=0.2)
        assert high == pytest.approx(dots[0] + (b - 12.31) * scale, abs=0.2)
    assert re.findall(r'circle class="([^"]+)"', svg) == ["d", "d h", "d h"]  # the best is full


# ---- searches ----------------------------------------------------------------------------------------------


def test_the_sentences_of_a_search_are_true() -> None:
    text = text_of(search_report(samples.search(2)))
    for sentence in (
        "On the data held out, the best point is better than the average.",
        "4 points and 2 models to compare with: 4 complete, 1 pruned and 1 failed.",
        "On the data held out, the best is point 4 with -0.12; its dot is full.",
        "On the data held out, the best is average with 0.6; its dot is full.",
        "The best point is clearly better than average, and not clearly better than a:",
        "The best point is clearly better than a, and not clearly better than average:",
        "The best, -0.1, came with trial 5 of 6 (point 4).",
        "The best, 0.1, came with trial 3 of 6 (point 2).",
        "Of 4 complete trials, 2 points of the search are on the front",
        "method matters most, with 0.6:",
        "the best 1 of 2 by near is drawn strong. The very best is at weight 0.4, method ties.",
    ):
        assert sentence in text


def test_best_so_far_only_gets_better() -> None:
    page = search_report(samples.search(2))
    plots = [json.loads(unescape(one)) for one in re.findall(r'data-plot="([^"]+)"', page)]
    assert plots[0]["data"] == [
        [1, 2, 3, 4, 5, 6],
        [-0.5, -0.3, -0.4, None, -0.1, None],
        [-0.5, -0.3, -0.3, -0.3, -0.1, -0.1],
    ]
    assert plots[1]["data"][2] == [0.5, 0.5, 0.1, 0.1, 0.1, 0.1]
    assert ["5", "-0.1", "-0.1"] in rows(page)


def test_every_trial_has_its_row() -> None:
    found = rows(search_report(samples.search()))
    assert ["point 4", "complete", "-0.1", "0.4", "ties", "1.5", ""] in found
    assert ["point 5", "failed", "", "0.5", "linear", "1.5", "out of memory"] in found
    assert ["average", "complete", "-0.5", "", "", "1.5", ""] in found


def test_a_search_that_found_nothing_can_be_shown() -> None:
    found: dict[str, Any] = samples.search() | {
        "trials": [], "best": None, "front": [], "importance": {}, "table": [], "verdict": None, "dimensions": []
    }  # fmt: skip
    text = text_of(search_report(found))
    assert "0 trials" in text


def test_parameters_that_do_not_matter_are_said_not_to() -> None:
    found = samples.search() | {"importance": {"weight": 0.0, "method": 0.0}}
    unknown = samples.search() | {"importance": {"weight": None, "method": None}}
    assert "What matters" not in search_report(unknown)
    assert "No parameter matters, as far as these trials tell" in text_of(search_report(found))


def test_names_with_html_are_text() -> None:
    for page in (evaluation_report(samples.evaluation(EVIL)), search_report(samples.search(2, EVIL))):
        assert "<img" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert page.count("<svg") == page.count("</svg>") > 1


def test_a_search_of_many_trials_is_small() -> None:
    found = samples.search(2)
    found["trials"] = [dict(one, name=f"{one['name']} {i}") for i in range(300) for one in found["trials"]]
    assert len(search_report(found).encode()) < 1_000_000
