"""An output folder that is absent or complete: staged, journaled, sealed, verified; read `storages.folder` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.names.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.output.digests import block_digest, tensor_digest
    from mergecore.output.inputs import InputFile, check_unchanged, fetched, input_files, pinned
    from mergecore.output.intermediate import (
        check_may_replace,
        check_room,
        content_of,
        folder_for,
        is_made,
        remove,
    )
    from mergecore.output.manifest import (
        Manifest,
        WrittenFile,
        WrittenTensor,
        facts,
        identity,
        libraries,
        read_manifest,
    )
    from mergecore.output.replacing import manifest_of
    from mergecore.output.resume import described, fingerprint
    from mergecore.output.storages.folder import Stage
    from mergecore.output.storages.memory import Memory, in_dtypes
    from mergecore.output.target import check_target, holds_result
    from mergecore.output.verify import VerifyReport, reader_of, verify_folder
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "digests": "block_digest tensor_digest",
            "inputs": "InputFile check_unchanged fetched input_files pinned",
            "intermediate": "check_may_replace check_room content_of folder_for is_made remove",
            "manifest": "Manifest WrittenFile WrittenTensor facts identity libraries read_manifest",
            "replacing": "manifest_of",
            "resume": "described fingerprint",
            "storages.folder": "Stage",
            "storages.memory": "Memory in_dtypes",
            "target": "check_target holds_result",
            "verify": "VerifyReport reader_of verify_folder",
        },
    )

__all__ = [
    "InputFile",
    "Manifest",
    "Memory",
    "Stage",
    "VerifyReport",
    "WrittenFile",
    "WrittenTensor",
    "block_digest",
    "check_may_replace",
    "check_room",
    "check_target",
    "check_unchanged",
    "content_of",
    "described",
    "facts",
    "fetched",
    "fingerprint",
    "folder_for",
    "holds_result",
    "identity",
    "in_dtypes",
    "input_files",
    "is_made",
    "libraries",
    "manifest_of",
    "pinned",
    "read_manifest",
    "reader_of",
    "remove",
    "tensor_digest",
    "verify_folder",
]
