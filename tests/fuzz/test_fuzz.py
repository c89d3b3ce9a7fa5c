"""A sample of the fuzzer, and that its reference is one: it shares nothing with the product."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fuzz.cases import case
from fuzz.reference.draws import words
from fuzz.reference.methods import METHODS
from fuzz.running import try_case

SEED = 1
EACH = 4
REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize("number", range(EACH * len(METHODS)))
def test_a_random_merge_agrees_with_the_reference(number: int, tmp_path: Path) -> None:
    drawn = case(SEED, number)
    report = try_case(drawn, tmp_path)
    again = f'make fuzz FUZZ="--seed {SEED} --first {number} --runs 1"'
    assert not report.wrong, f"{drawn.method}: {report.wrong[:3]}; again: {again}"


@pytest.mark.parametrize("file", sorted(REFERENCE.glob("*.py")), ids=lambda file: file.stem)
def test_the_reference_imports_numpy_and_itself_alone(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    strangers = {
        one for one in imported if one.split(".")[0] in ("torch", "mergecore", "mergecore_plugins", "tiny")
    }
    assert not strangers
    assert all(one.startswith("fuzz.reference") for one in imported if one.startswith("fuzz"))


def test_the_random_numbers_of_the_reference_are_those_of_a_known_answer() -> None:
    """Of SHA-256 of "mergecore-rng/1", 7, "w", 0 and "mask": computed by hand with a Philox of ten lines."""
    assert [int(one) for one in words(7, "w", 0, "mask", 9)] == philox(7, "w", 0, "mask", 9)


def philox(seed: int, tensor: str, slot: int, purpose: str, count: int) -> list[int]:
    """Philox4x64-10 in integers of Python."""
    from hashlib import sha256

    digest = sha256(f"mergecore-rng/1\0{seed}\0{tensor}\0{slot}\0{purpose}".encode()).digest()
    found: list[int] = []
    for block in range(-(-count // 8)):
        key = [int.from_bytes(digest[at : at + 8], "little") for at in (0, 8)]
        c = [block, 0, 0, 0]
        for _ in range(10):
            one, two = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(two >> 64) ^ c[1] ^ key[0], two % 2**64, (one >> 64) ^ c[3] ^ key[1], one % 2**64]
            key = [(key[0] + 0x9E3779B97F4A7C15) % 2**64, (key[1] + 0xBB67AE8584CAA73B) % 2**64]
        for number in c:
            found += [number % 2**32, number >> 32]
    return found[:count]
