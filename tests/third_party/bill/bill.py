"""The side file `bill`: which model each tensor comes from, for whoever has to say so."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mergecore import Field, Params, SideFile, hookimpl
from mergecore.types import SideFileRequest, SideFiles


class BillParams(Params):
    file: str = Field(default="bill.json", pattern=r"^\w+\.json$", description="how the file is called")
    tensors: bool = Field(default=True, description="say it of each tensor")


def bill(request: SideFileRequest, params: BillParams) -> SideFiles:
    parts = {step.name: [request.names[one.model] for one in step.inputs] for step in request.steps}
    told = {"title": request.title, "made_by": request.made_by, "models": request.names}
    content = json.dumps({**told, "tensors": parts} if params.tensors else told, indent=2)
    return SideFiles({params.file: content.encode()})


@hookimpl
def mergecore_side_files() -> Iterator[SideFile[BillParams]]:
    yield SideFile(name="bill", make=bill, params=BillParams)
