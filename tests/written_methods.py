"""Files of merge methods as they are written for mergekit."""

from __future__ import annotations

from pathlib import Path

HEAD = "from typing import *\nimport torch\nfrom mergekit.merge_methods.easy_define import merge_method\n"
ONE = "def one(tensors: List[torch.Tensor]{}) -> torch.Tensor:\n    return tensors[0]\n"
OPTIONAL = ", base_tensor: Optional[torch.Tensor]"
NEEDED = ", base_tensor: torch.Tensor"


def write(folder: Path, text: str) -> Path:
    """Write a file of methods, which has its imports already; the file."""
    (folder / "own.py").write_text(HEAD + text)
    return folder / "own.py"
