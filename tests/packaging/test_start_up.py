"""What is listed and helped costs no heavy import."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["torch", "numpy", "transformers", "huggingface_hub", "tokenizers", "peft", "safetensors", "yaml"]

WATCH = f"""
import sys
{{statement}}
print(*sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr, end="")
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import mergecore",
        "from mergecore.cli.app import run; run(['--help'])",
        "from mergecore.cli.app import run; run(['--version'])",
        "from mergecore.cli.app import run; run(['merge', '--help'])",
        "from mergecore.cli.app import run; run(['plugins', 'list'])",
        "from mergecore.cli.app import run; run(['methods', 'list'])",
        "from mergecore.cli.app import run; run(['demo', '--help'])",
    ],
)
def test_no_heavy_package_is_imported(statement: str) -> None:
    command = [sys.executable, "-c", WATCH.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout or statement == "import mergecore"
