"""Reading whole a file that is meant to be small, such as a config.

Read `read_small`; what keeps it from waiting for a pipe is in `input_files`.
"""

from __future__ import annotations

from pathlib import Path

from mergecore.errors import class_of
from mergecore.files.safe_open import open_regular, unreadable
from mergecore.files.sizes import size_text


def read_small(path: Path, *, code: str, max_bytes: int, limit_code: str = "E308") -> bytes:
    """The bytes of `path`, which may be a symbolic link.

    Raises:
        MergecoreError: `code` when it is missing, `limit_code` when it has more than `max_bytes`, E236 when
            it cannot be read, E309 when it is not a regular file.
    """
    place = str(path)
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        hint = None if path.parent.exists() else f"there is no folder '{path.parent}'"
        raise class_of(code)(code, "missing", place=place, hint=hint) from None
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise unreadable(error if isinstance(error, OSError) else OSError(str(error)), place) from None
    with open_regular(real, place) as (read, status):
        if status.st_size > max_bytes:
            what = f"the file has {size_text(status.st_size)} and is larger than {size_text(max_bytes)}"
            raise class_of(limit_code)(limit_code, what, place=place)
        return read(0, status.st_size)
