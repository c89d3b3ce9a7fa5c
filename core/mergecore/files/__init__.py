"""Files that others wrote, read strictly, and files that we write, durably; read `safe_open` and `durable` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.files.dtypes import DTYPES, MERGEABLE, NumberFormat, nbytes, promoted
    from mergecore.files.patterns import searcher
    from mergecore.files.safe_open import ReadAt
    from mergecore.files.sizes import size_text
    from mergecore.files.small_files import read_small
    from mergecore.files.strict_json import parse_json, read_json
    from mergecore.files.yaml_document import SEARCHED, DocPath, Tagged, parse_documents
    from mergecore.files.yaml_text import read_text
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "dtypes": "DTYPES MERGEABLE NumberFormat nbytes promoted",
            "patterns": "searcher",
            "small_files": "read_small",
            "safe_open": "ReadAt",
            "sizes": "size_text",
            "strict_json": "parse_json read_json",
            "yaml_document": "SEARCHED DocPath Tagged parse_documents",
            "yaml_text": "read_text",
        },
    )

__all__ = [
    "DTYPES",
    "MERGEABLE",
    "SEARCHED",
    "DocPath",
    "NumberFormat",
    "ReadAt",
    "Tagged",
    "nbytes",
    "parse_documents",
    "parse_json",
    "promoted",
    "read_json",
    "read_small",
    "read_text",
    "searcher",
    "size_text",
]
