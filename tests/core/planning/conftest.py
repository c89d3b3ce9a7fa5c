"""What several tests of plans of merges share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import write_llama

from mergecore.models.safetensors import SNIFFED


@pytest.fixture
def _no_weight_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder with the models base, a and b of two layers."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_llama(tmp_path / "m" / name, 2, seed=seed)

    def fail(*_: object) -> int:
        raise AssertionError("a weight was read while planning")

    def of_headers_only(file: int, count: int, offset: int) -> bytes:
        """The first kilobytes are read at once; what follows them only as far as the header goes."""
        weights = {one.stat().st_ino for one in tmp_path.rglob("*.safetensors")}
        header = 8 + int.from_bytes(pread(file, 8, 0), "little")
        if os.fstat(file).st_ino in weights and offset + count > (header if offset else max(header, SNIFFED)):
            fail()
        return pread(file, count, offset)

    pread = os.pread
    monkeypatch.setattr(os, "preadv", fail)
    monkeypatch.setattr(os, "pread", of_headers_only)
