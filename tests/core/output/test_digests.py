import hashlib
from pathlib import Path

import pytest
from blake3 import blake3

from mergecore.files.safe_open import open_regular
from mergecore.output.digests import (
    block_bytes,
    block_digest,
    digest_of_file_span,
    sample_digest,
    tensor_digest,
)
from mergecore.types.steps import BLOCK


def test_the_digest_of_a_tensor_is_that_of_the_digests_of_its_blocks() -> None:
    blocks = [b"one", b"two"]
    expected = blake3(blake3(b"one").digest() + blake3(b"two").digest()).hexdigest()
    assert tensor_digest(block_digest(block) for block in blocks) == expected


def test_an_empty_tensor_has_the_digest_of_no_blocks() -> None:
    assert tensor_digest([]) == blake3(b"").hexdigest()


@pytest.mark.parametrize(
    ("dtype", "size"), [("F32", 4 * BLOCK), ("BF16", 2 * BLOCK), ("U8", BLOCK), ("F4", BLOCK // 2)]
)
def test_a_block_has_the_same_number_of_elements_in_every_format(dtype: str, size: int) -> None:
    assert block_bytes(dtype, (8,), 32, encoded=False) == size


def test_a_block_has_the_same_number_of_elements_in_an_encoding() -> None:
    """256 numbers in 8 times 34 bytes: a full block has 8192 of these."""
    assert block_bytes("BF16", (4, 64), 272, encoded=True) == 8192 * 34
    assert block_bytes("BF16", (0,), 10**15, encoded=True) == 8 * BLOCK  # of a manifest that nobody wrote
    assert block_bytes("BF16", (10**9,), 1, encoded=True) == 1


def test_a_span_of_a_file_is_hashed_block_by_block(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"--aaabbbcc--")
    with path.open("rb") as file:
        digest = digest_of_file_span(file.fileno(), 2, 8, 3)
        empty = digest_of_file_span(file.fileno(), 2, 0, 3)
        cut = digest_of_file_span(file.fileno(), 8, 8, 3)
    assert digest == tensor_digest(block_digest(block) for block in (b"aaa", b"bbb", b"cc"))
    assert empty == tensor_digest([])
    assert cut == tensor_digest(block_digest(block) for block in (b"cc-", b"-", b""))


def test_a_sample_shows_other_weights_under_the_same_header(tmp_path: Path) -> None:
    one, other, small = tmp_path / "one", tmp_path / "other", tmp_path / "small"
    one.write_bytes(b"header" + bytes(1_000_000))
    other.write_bytes(b"header" + b"\1" * 1_000_000)
    small.write_bytes(b"tiny")
    digests = []
    for path in (one, other, small):
        with open_regular(path, path.name) as (read, status):
            digests.append(sample_digest(read, status.st_size))
    assert digests[0] != digests[1]
    assert digests[2] == hashlib.sha256(b"tiny" * 16).hexdigest()
