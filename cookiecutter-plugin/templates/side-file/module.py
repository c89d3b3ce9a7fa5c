"""{{ cookiecutter.name }}: a file with the names of the models that were merged."""

from collections.abc import Iterator

from mergecore import Field, Params, SideFile, hookimpl
from mergecore.types import SideFileRequest, SideFiles


class ParentsParams(Params):
    file: str = Field(default="parents.txt", pattern=r"^\w+\.txt$", description="what the file is called")


def make(request: SideFileRequest, params: ParentsParams) -> SideFiles:
    lines = "".join(f"{request.names[model]}\n" for model in request.merged)
    return SideFiles({params.file: lines.encode()})


@hookimpl
def mergecore_side_files() -> Iterator[SideFile[ParentsParams]]:
    yield SideFile(name="{{ cookiecutter.name }}", make=make, params=ParentsParams)
