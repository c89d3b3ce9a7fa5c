"""An output folder that is absent or complete: staged, journaled, sealed, verified; read `storages.folder` first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergecore.files.on_demand import on_demand

if TYPE_CHECKING:
    from mergecore.output.digests import block_digest, tensor_digest
    from mergecore.output.inputs import InputFile, check_unchanged, fetched, input_files, pinned
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
    from mergecore.output.resume import described
    from mergecore.output.storages.folder import Stage
    from mergecore.output.storages.memory import Memory, in_dtypes
    from mergecore.output.target import check_target
    from mergecore.output.verify import VerifyReport, reader_of, verify_folder
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "digests": "block_digest tensor_digest",
            "inputs": "InputFile check_unchanged fetched input_files pinned",
            "manifest": "Manifest WrittenFile WrittenTensor facts identity libraries read_manifest",
            "replacing": "manifest_of",
            "resume": "described",
            "storages.folder": "Stage",
            "storages.memory": "Memory in_dtypes",
            "target": "check_target",
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
    "check_target",
    "check_unchanged",
    "described",
    "facts",
    "fetched",
    "identity",
    "in_dtypes",
    "input_files",
    "libraries",
    "manifest_of",
    "pinned",
    "read_manifest",
    "reader_of",
    "tensor_digest",
    "verify_folder",
]
