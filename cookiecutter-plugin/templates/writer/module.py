"""{{ cookiecutter.name }}: a file NAME.npy for each tensor, which `numpy.load` reads."""

from collections.abc import Iterator

from mergecore import ConfigError, NoParams, OutputWriter, hookimpl
from mergecore.types import Layout, LayoutRequest, OutputFile, OutputTensor, Slot

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}


def header(one: OutputTensor) -> bytes:
    if one.dtype not in KINDS:
        raise ConfigError("E105", f"'{one.name}': npy has no {one.dtype}", hint="write dtype: float32")
    facts = str({"descr": KINDS[one.dtype], "fortran_order": False, "shape": tuple(one.shape)}).encode()
    words = facts.ljust(64 * (len(facts) // 64 + 2) - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words


def lay_out(request: LayoutRequest, params: NoParams) -> Layout:
    heads = [header(one) for one in request.tensors]
    both = list(zip(request.tensors, heads, strict=True))
    slots = {one.name: Slot(i, len(head), one.nbytes) for i, (one, head) in enumerate(both)}
    return Layout(tuple(OutputFile(f"{t.name}.npy", head, len(head) + t.nbytes) for t, head in both), slots)


@hookimpl
def mergecore_output_writers() -> Iterator[OutputWriter[NoParams]]:
    yield OutputWriter(name="{{ cookiecutter.name }}", layout=lay_out)
