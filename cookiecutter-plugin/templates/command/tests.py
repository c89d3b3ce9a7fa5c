"""What the command prints, and what every command has to keep."""

from pathlib import Path

import click
from click.testing import CliRunner
from mergecore import Registry
from mergecore.testing import check_command, tiny_model
from safetensors.torch import load_file

COMMAND = Registry.discover().get(click.Command, "{{ cookiecutter.name }}")


def test_the_command_keeps_the_contract(tmp_path: Path) -> None:
    check_command(COMMAND, tiny_model(tmp_path))


def test_it_counts_every_parameter(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, dtype="bfloat16")
    count = sum(one.numel() for one in load_file(model / "model.safetensors").values())
    assert CliRunner().invoke(COMMAND, [str(model)]).output.split() == ["BF16", f"{count:,}"]
