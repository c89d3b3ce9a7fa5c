"""Whose files are taken, and what every strategy has to keep."""

from collections.abc import Callable
from pathlib import Path

import mergecore
import pytest
from mergecore import ConfigError, Registry, TokenizerStrategy
from mergecore.testing import check_tokenizer_strategy

STRATEGY = Registry.discover().get(TokenizerStrategy, "{{ cookiecutter.name }}")
Models = Callable[..., list[Path]]


def config(models: list[Path], number: int) -> dict[str, object]:
    entries = [{"model": str(model), "parameters": {"weight": 1}} for model in models]
    return {"merge_method": "linear", "models": entries, "tokenizer": {"strategy": STRATEGY.name, "number": number}}


def test_the_strategy_keeps_the_contract(tiny_models: Models) -> None:
    check_tokenizer_strategy(STRATEGY, *tiny_models(2), params={"number": 2})


def test_the_files_are_those_of_the_model_of_that_number(tiny_models: Models, tmp_path: Path) -> None:
    first, second = tiny_models(2)
    (second / "tokenizer_config.json").write_text('{"model_max_length": 7}')
    merged = mergecore.merge(config([first, second], 2), tmp_path / "merged")
    assert (merged / "tokenizer_config.json").read_text() == '{"model_max_length": 7}'


def test_a_number_without_a_model_is_refused(tiny_models: Models) -> None:
    with pytest.raises(ConfigError, match="number 3: there are 2 models"):
        mergecore.plan(config(tiny_models(2), 3))
