"""lm-eval and datasets without their own logs and bars; read `quiet`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

LOGGERS = ("lm_eval", "datasets", "huggingface_hub", "evaluate", "httpx")

BARS = ("lm_eval.api.task", "lm_eval.models.huggingface")
"""Modules that draw bars."""
ASIDE = ("add_env_info", "get_git_commit_hash")
"""What lm-eval finds out about the machine by running other programs, which is not looked at here."""


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, only errors are logged, and no bar is drawn: mergecore tells how far an evaluation is."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [one.level for one in loggers]
    with ExitStack() as stack:
        for one in loggers:
            one.setLevel(logging.ERROR)
        for module in (sys.modules[name] for name in BARS if name in sys.modules):
            if hasattr(module, "tqdm"):
                stack.enter_context(patch.object(module, "tqdm", _unseen(module.tqdm)))
        evaluator = sys.modules.get("lm_eval.evaluator")
        for name in (one for one in ASIDE if hasattr(evaluator, one)):
            stack.enter_context(patch.object(evaluator, name, _nothing))
        stack.enter_context(_no_bars())
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)


def _unseen(bar: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *items, **options: bar(*items, **{**options, "disable": True})


def _nothing(*_: Any) -> None:
    return None


@contextmanager
def _no_bars() -> Iterator[None]:
    datasets = sys.modules.get("datasets")
    if datasets is None or not datasets.is_progress_bar_enabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
