"""config.json of a model: reading it, and whether it can be true of the tensors beside it.

`read_config` needs the file alone; `disagreements` and `quantisation` compare it with the headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mergecore.errors import Collector, InputError, MergecoreError, counted
from mergecore.files.strict_json import parse_mapping
from mergecore.models.input_folder import InputFolder
from mergecore.models.layers import (
    AHEAD,
    LAYER_COUNT_KEYS,
    NestedConfig,
    find_stacks,
    is_text,
    nested_configs,
    split_name,
)
from mergecore.types import Json, Origin, Stack, TensorInfo

NAME = "config.json"
MAX_CONFIG = 64_000_000


def read_config(folder: InputFolder) -> dict[str, Json]:
    """The config of a model as it is written.

    Raises:
        MergecoreError: E220 when it is missing, no JSON object or holds impossible numbers; E236, E302, E308.
    """
    place = folder.place(NAME)
    text = folder.read(NAME, code="E220", max_bytes=MAX_CONFIG)
    value = parse_mapping(text, code="E220", place=place, infinite=True)
    problems = Collector()
    for path, section in _language_sections(value):
        for key in (*LAYER_COUNT_KEYS, "vocab_size", "hidden_size"):
            number = section.get(key)
            if isinstance(number, bool | float | str) or (isinstance(number, int) and number < 0):
                what = f"{_dotted(path, key)} is {number!r}; expected a whole number from 0 on"
                problems.add(InputError("E220", what, place=place))
    problems.raise_any()
    return value


def disagreements(
    config: Mapping[str, Json], tensors: Mapping[str, TensorInfo], place: str
) -> Iterator[MergecoreError]:
    """Errors E221: what `config`, shown as `place`, says about layers and vocabulary and the tensors deny."""
    stacks = find_stacks(tensors)
    path, section = _language_sections(config)[0]
    key = next((key for key in _PRIMARY if isinstance(section.get(key), int)), "")
    stated = section.get(key)
    if isinstance(stated, int) and stacks and not _explained(stated, section, stacks, tensors):
        counts = " or ".join(f"{counted(stack.count, 'layer')} ({stack.prefix}*)" for stack in stacks[:4])
        what = f"{_dotted(path, key)} {stated}, but the weights have {counts}"
        yield InputError("E221", what, place=place, hint="correct it, or use the weights it belongs to")
    wanted = min(vocabulary_sizes(config), default=0)
    for tensor in tensors.values():
        if len(tensor.shape) == 2 and tensor.shape[0] < wanted and _is_token_matrix(tensor.name):
            what = f"'{tensor.name}' has {tensor.shape[0]} rows, fewer than vocab_size {wanted}"
            hint = "correct it, or use the weights it belongs to"
            yield InputError("E221", what, place=place, tensor=tensor.name, hint=hint)


def quantisation(config: Mapping[str, Json], tensors: Iterable[Origin], shown: str) -> MergecoreError | None:
    """The error E233 when the weights are quantised, naming the format; else None."""
    for path, section in nested_configs(config):
        for key in ("quantization_config", "compression_config"):
            stated = section.get(key)
            if isinstance(stated, dict) and stated:
                what = f"quantised ({_format(stated)}, {_dotted(path, key)} in config.json)"
                hint = "use the checkpoint it was made from; if these weights are plain, remove that key"
                return InputError("E233", f"{what}: cannot be merged", place=shown, hint=hint)
    for tensor in tensors:
        if kind := _packed(tensor):
            what = f"quantised ({kind}, tensor '{tensor.name}' of {tensor.dtype}): cannot be merged"
            hint = "use the checkpoint it was made from"
            return InputError("E233", what, place=shown, tensor=tensor.name, hint=hint)
    return None


def vocabulary_sizes(config: Mapping[str, Json]) -> set[int]:
    """Every size of a vocabulary that `config` states, of all models nested in it."""
    return {
        size
        for _, section in nested_configs(config)
        for key, size in section.items()
        if key.endswith("vocab_size") and isinstance(size, int) and not isinstance(size, bool)
    }


def may_untie(config: Mapping[str, Json]) -> bool:
    """Whether config.json may say that head and embeddings are two tensors.

    Where encoder and decoder share their table, `tie_word_embeddings` says that, too, and in families like T5 that
    outputs are scaled: it must stay as it is.  The loader takes the tensors that the file holds.
    """
    return not config.get("is_encoder_decoder") and config.get("model_type") not in _SCALED_BY_TIE


_SCALED_BY_TIE = ("longt5", "mt5", "pop2piano", "switch_transformers", "t5", "udop", "umt5")


def _language_sections(config: Mapping[str, Json]) -> list[NestedConfig]:
    """The part about the text model, if there is one, and the top."""
    text = [(path, part) for path, part in nested_configs(config) if is_text(path)]
    return [*text[:1], ((), config)]


def _dotted(path: tuple[str, ...], key: str) -> str:
    return ".".join((*path, key))


# ---- layers ------------------------------------------------------------------------------------------------

_PRIMARY = LAYER_COUNT_KEYS[:4]
_EXTRA_KEYS = re.compile(r"nextn|mtp")
_REPEATED_KEYS = re.compile(r"_(loops|cycles|repeats|per_stack)$")


def _explained(
    stated: int, section: Mapping[str, Json], stacks: Sequence[Stack], names: Iterable[str]
) -> bool:
    """Whether a stack has `stated` layers, as many as another key says, or some that predict tokens ahead."""
    counts = {stack.count for stack in stacks}
    known = [count for key in LAYER_COUNT_KEYS if isinstance(count := section.get(key), int)]
    more = [count for key, count in section.items() if _EXTRA_KEYS.search(key) and isinstance(count, int)]
    repeated = any(_REPEATED_KEYS.search(key) for key in section)
    if repeated or not counts.isdisjoint([*known, stated + sum(more)]):
        return True
    parts = [split_name(name) for name in names if AHEAD.search(name)]
    further = {part[:2] for part in parts if part}
    return any(
        stated < stack.count and all((stack.prefix, layer) in further for layer in range(stated, stack.count))
        for stack in stacks
    )


# ---- vocabulary --------------------------------------------------------------------------------------------

_TOKEN_MATRIX = re.compile(
    r"(.*\.)?(embed_tokens|wte|word_embeddings|tok_embeddings|token_embedding|embed_in|shared|lm_head|embed_out)"
    r"\.weight"
)
_NOT_TEXT = re.compile(r"vision|visual|image|audio|speech|codec")


def _is_token_matrix(name: str) -> bool:
    return bool(_TOKEN_MATRIX.fullmatch(name)) and not _NOT_TEXT.search(name)


# ---- quantisation ------------------------------------------------------------------------------------------

_PACKED = (
    (r"\.qweight", "GPTQ or AWQ"),
    (r"\.(quant_map|absmax|nested_absmax|quant_state\..+)", "bitsandbytes, 4 bits"),
    (r"\.SCB", "bitsandbytes, 8 bits"),
    (r"\.weight_packed", "compressed-tensors"),
)

_ANY_PACKED = re.compile("|".join(f"(?:{pattern})$" for pattern, _ in _PACKED))


def _format(stated: Mapping[str, Json]) -> str:
    """The format that a quantisation config states, such as "gptq, 4 bits"."""
    method = stated.get("quant_method") or stated.get("quant_algo")
    if not isinstance(method, str):
        method = "bitsandbytes" if any(key.startswith("load_in_") for key in stated) else "format not named"
    bits = stated.get("bits") or stated.get("w_bit") or (4 if stated.get("load_in_4bit") else None)
    return f"{method}, {bits} bits" if isinstance(bits, int) else method


def _packed(tensor: Origin) -> str | None:
    """The format in which `tensor` is packed, if it is."""
    if tensor.dtype.startswith(("F8_", "F6_", "F4")):
        return f"fp{tensor.dtype[1]}"
    if tensor.dtype == "U8" and tensor.name.endswith("_blocks"):
        return "MXFP4"
    if not _ANY_PACKED.search(tensor.name):
        return None
    return next((kind for pattern, kind in _PACKED if re.search(f"{pattern}$", tensor.name)), None)
