"""The page for people who come from mergekit names every command, option and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, dict[str, str]] = json.loads(
    (ROOT / "tests/core/cli/mergekit_options.json").read_text(encoding="utf8")
)
KEYS = """merge_method models slices modules base_model parameters dtype out_dtype tokenizer_source tokenizer
chat_template name sources layer_range model filter value path revision lora override_architecture tokens source kind
token token_id force pad_to_multiple_of residual_weight int8_mask embed_slerp input_model_parameters experts gate_mode
shared_experts experts_per_token genome tasks layer_slices embedding_source lm_head_source"""


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/how-to/from-mergekit.md").read_text(encoding="utf8")


def test_the_page_names_every_command_and_every_option(page: str) -> None:
    options = {name for kinds in COMMANDS.values() for names in kinds.values() for name in names.split()}
    said = {one for one in options if not one.startswith("--no-") and one != "--verbose"}
    assert {one for one in said if f"`{one}" not in page} == set()
    commands = {one.replace("fill-missing-params", "fill_missing_params") for one in COMMANDS} - {
        "mergekitty"
    }
    assert {one for one in commands if f"`{one}" not in page} == set()


def test_the_page_names_every_key(page: str) -> None:
    section = page.split("## Keys of a config")[1].split("## ")[0]
    assert {key for key in KEYS.split() if key not in section} == set()
