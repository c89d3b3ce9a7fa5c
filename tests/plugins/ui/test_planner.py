"""Plans of what is typed are made beside the server: newer text ends older plans, and nothing there harms it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from ui_server import CONFIG

from mergecore.types import Json
from mergecore_plugins.ui.planning.planner import Planned, Planner, Superseded
from mergecore_plugins.ui.planning.shown import accounts

HANGS = """
import os, time
from mergecore import MergeMethod, Params, hookimpl

def check(steps, names):
    if os.environ.get("THEN") == "die":
        os._exit(3)
    time.sleep(60)

@hookimpl
def mergecore_merge_methods():
    yield MergeMethod(name="hangs", merge=lambda group, params: None, params=Params, check_plan=check)
"""
HANGING = "merge_method: hangs\nmodels:\n  - model: a\n"


def asked(text: str) -> Mapping[str, Json]:
    return {"text": text, "name": "x.yml", "offline": True, "threads": 1, "max_memory": None}


def test_newer_text_ends_the_plan_of_older_text(folder: Path, write_plugin: Any) -> None:
    write_plugin("hangs", HANGS)

    async def type_twice() -> tuple[object, Planned, float]:
        planner = Planner()
        await planner.plan(asked(CONFIG))
        older = asyncio.create_task(planner.plan(asked(HANGING)))
        await asyncio.sleep(1)
        begin = time.monotonic()
        newer = await planner.plan(asked(CONFIG))
        spent = time.monotonic() - begin
        gone = (await asyncio.gather(older, return_exceptions=True))[0]
        await planner.end()
        return gone, newer, spent

    gone, newer, spent = asyncio.run(type_twice())
    assert isinstance(gone, Superseded)
    assert newer.ok
    assert spent < 30  # the older one would take a minute


def test_of_many_texts_at_once_the_newest_is_planned(folder: Path) -> None:
    async def type_fast() -> list[object]:
        planner = Planner()
        found = await asyncio.gather(
            *(planner.plan(asked(f"{CONFIG}# {number}\n")) for number in range(6)), return_exceptions=True
        )
        await planner.end()
        return list(found)

    *older, newest = asyncio.run(type_fast())
    assert isinstance(newest, Planned)
    assert newest.ok
    assert all(isinstance(one, Superseded) for one in older[1:])


def test_a_process_that_dies_is_said_and_replaced(
    folder: Path, write_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin("hangs", HANGS)
    monkeypatch.setenv("THEN", "die")

    async def plan() -> tuple[Planned, Planned]:
        planner = Planner()
        dead = await planner.plan(asked(HANGING))
        alive = await planner.plan(asked(CONFIG))
        await planner.end()
        return dead, alive

    dead, alive = asyncio.run(plan())
    (fault,) = dead.faults
    assert isinstance(fault, dict)
    assert "ended without an answer" in str(fault["message"])
    assert alive.ok


def test_a_run_waits_for_the_newest_text(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def superseded(self: Planner, asked: object) -> Planned:
        raise Superseded

    monkeypatch.setattr(Planner, "plan", superseded)
    answer = page.post("/runs", json={"text": CONFIG, "out": "out"})
    assert answer.status_code == 422
    assert answer.json()["message"] == "the config was changed meanwhile; run it again"
    assert page.post("/plan", json={"text": CONFIG}).status_code == 204


def test_what_plugins_print_does_not_get_into_the_answer(folder: Path, write_plugin: Any) -> None:
    write_plugin("hangs", HANGS.replace("    time.sleep(60)\n", "    print('hello')\n"))

    async def plan() -> Planned:
        planner = Planner()
        found = await planner.plan(asked(HANGING))
        await planner.end()
        return found

    assert asyncio.run(plan()).ok


def test_every_tensor_has_an_account() -> None:
    """Two merged, of which one step makes two; one copied, one left out: all five names."""
    plan = {
        "tensors": [
            {"name": "a", "method": "ties", "note": "", "further": [{"name": "b"}]},
            {"name": "c", "method": "", "note": "equal in all models"},
            {"name": "d", "method": "ties", "note": ""},
        ],
        "dropped": [{"model": "m", "names": ["e"], "reason": "no layer of the result"}],
    }
    assert [(one.count, one.words, list(one.names)) for one in accounts(plan)] == [
        (3, "merged by ties", ["a", "b", "d"]),
        (1, "copied: equal in all models", ["c"]),
        (1, "of m left out: no layer of the result", ["e"]),
    ]
