"""Draws the picture of the README: `python -m build_site.terminal OUT.svg`, what a terminal shows of a merge.

The commands run; only the models are made up.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from safetensors.torch import save_file

COLUMNS = 94
HIDDEN, LAYERS, TOKENS = 768, 12, 32000
CONFIG = """\
merge_method: ties
base_model: ./base
models:
  - model: ./code
    parameters: {wieght: 0.6, density: 0.5}
  - model: ./math
    parameters: {weight: 0.4, density: 0.5}
dtype: bfloat16
"""
COMMANDS = (
    "mergecore plan config.yml",
    "sed -i s/wieght/weight/ config.yml",
    "mergecore plan config.yml",
    "mergecore merge config.yml merged/",
    "mergecore verify merged/",
)
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def draw(out: Path) -> None:
    """Run the commands in a folder with three models, and write what they show as SVG."""
    screen = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("base", "code", "math")):
            write_model(Path(folder) / name, seed)
        (Path(folder) / "config.yml").write_text(CONFIG)
        for command in COMMANDS:
            screen.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            if shown := run(command, folder):
                screen.print(Text.from_ansi(shown))
    drawn = screen.export_svg(title="mergecore", theme=MONOKAI, unique_id="merge")
    out.write_text(FONTS.sub("", drawn), encoding="utf8")


def write_model(folder: Path, seed: int) -> None:
    """A checkpoint of the shape of a small Llama with random weights."""
    random = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).mul_(0.02).to(torch.bfloat16)

    tensors = {"model.embed_tokens.weight": weight(TOKENS, HIDDEN), "lm_head.weight": weight(TOKENS, HIDDEN)}
    tensors["model.norm.weight"] = weight(HIDDEN)
    for layer in (f"model.layers.{i}" for i in range(LAYERS)):
        tensors |= {f"{layer}.self_attn.{one}_proj.weight": weight(HIDDEN, HIDDEN) for one in "qkvo"}
        tensors |= {f"{layer}.mlp.{one}_proj.weight": weight(4 * HIDDEN, HIDDEN) for one in ("up", "gate")}
        tensors[f"{layer}.mlp.down_proj.weight"] = weight(HIDDEN, 4 * HIDDEN)
        tensors |= {f"{layer}.{one}_layernorm.weight": weight(HIDDEN) for one in ("input", "post_attention")}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN}
    config |= {"num_hidden_layers": LAYERS, "intermediate_size": 4 * HIDDEN, "vocab_size": TOKENS}
    config |= {"num_attention_heads": 12, "num_key_value_heads": 12, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))


def run(command: str, folder: str) -> str:
    """What a terminal holds of a command when it is done."""
    ours, theirs = pty.openpty()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    ) as process:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    os.close(ours)
    if process.returncode not in (0, 2):
        raise RuntimeError(f"'{command}' failed: {seen.decode()}")
    lines = seen.decode().replace("\r\n", "\n").replace("\r\x1b[K", "\r").split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines).rstrip()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody is at the other end any more
        return b""


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
