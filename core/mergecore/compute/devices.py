"""Where torch computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch


_KINDS_OF_DEVICES = {
    **dict.fromkeys(("gpu", "nvidia", "amd", "rocm", "hip", "radeon"), "cuda"),
    **dict.fromkeys(("metal", "apple", "mac"), "mps"),
    **dict.fromkeys(("intel",), "xpu"),
}
"""What people call accelerators, and what torch does."""


def device(name: str) -> torch.device:
    """The torch device of that name; `auto` takes an accelerator if there is one.

    Raises:
        ConfigError: E105 when numbers cannot be put there and fetched back.
    """
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        torch.zeros(1, device=name).cpu()
        return torch.device(name)
    except (RuntimeError, AssertionError, ImportError) as error:
        kind = name.partition(":")[0].lower()
        known = _KINDS_OF_DEVICES.get(kind)
        what = f"unknown device '{name}'{did_you_mean(kind, ('cpu', 'auto', 'cuda', 'mps', 'xpu'))}"
        if known is None and not str(error).startswith("Expected one of"):
            what = f"'{name}' cannot be used: {next(iter(str(error).splitlines()), type(error).__name__)}"
        hint = "write cpu, auto, or an accelerator of this machine such as cuda:0"
        if known is not None:
            what, hint = f"unknown device '{name}'", f"write {known}, or auto to take what this machine has"
        raise ConfigError("E105", what, place="--device", hint=hint) from error
