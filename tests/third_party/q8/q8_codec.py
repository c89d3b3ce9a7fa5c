"""Q8_0 of GGUF: 32 numbers as a scale in float16 and 32 integers of 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.types import Codec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def encode(numbers: npt.NDArray[np.float32]) -> bytes:
    import numpy as np

    blocks = numbers.reshape(-1, 32)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / 127
    scaled = blocks * np.where(scales == 0, 0, 1 / scales)
    whole = np.floor(np.abs(scaled))
    near = np.sign(scaled) * (whole + np.floor(2 * (np.abs(scaled) - whole)))  # half away from zero
    return np.hstack([scales.astype("<f2").view(np.uint8), near.astype(np.int8).view(np.uint8)]).tobytes()


CODECS = {"Q8_0": Codec(block_elements=32, block_bytes=34, encode=encode, largest=127 * 65504.0)}
