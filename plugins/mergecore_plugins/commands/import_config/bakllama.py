"""A config of bakllama as a merge config: layers stacked, some of them damped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mergecore.errors import Collector, ConfigError

if TYPE_CHECKING:
    from mergecore import Document
    from mergecore.types import Json


class _Slice(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str
    start: int
    end: int
    scale: float | None = None


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    layer_slices: tuple[_Slice, ...]
    embedding_source: str | None = None
    lm_head_source: str | None = None


def from_bakllama(document: Document, notes: list[str]) -> dict[str, Json]:
    """The merge config that says the same.

    Raises:
        ConfigError: E104 for what is no such config, and for embeddings or a head of another model than that of the
            first or last slice, which no merge config can say.
    """
    config = _read(document)
    problems = Collector()
    ends = (config.layer_slices[0].model, config.layer_slices[-1].model)
    for key, model, end in (
        ("embedding_source", config.embedding_source, ends[0]),
        ("lm_head_source", config.lm_head_source, ends[1]),
    ):
        if model is not None and model != end:
            part = "embeddings come" if key == "embedding_source" else "head comes"
            which = "first" if key == "embedding_source" else "last"
            what = f"{key} {model!r} cannot be kept: the {part} from the model of the {which} slice, {end!r}"
            hint = "remove it, if that is what you want"
            problems.add(ConfigError("E104", what, place=document.key_place((key,)), hint=hint))
    problems.raise_any()
    notes.append("bakllama wrote float16 with --fp16: add 'dtype: float16' if you used it")
    slices: list[Json] = [{"sources": [_source(one)]} for one in config.layer_slices]
    return {"merge_method": "passthrough", "slices": slices}


def _read(document: Document) -> _Config:
    try:
        config = _Config.model_validate(dict(document.data))
    except ValidationError as error:
        first = error.errors()[0]
        place = document.place(tuple(first["loc"]))
        where = ".".join(map(str, first["loc"]))
        what = f"not a config of bakllama: {where}: {first['msg'].lower()}"
        raise ConfigError("E104", what, place=place, hint="a slice has model, start, end and scale") from None
    if not config.layer_slices:
        raise ConfigError("E104", "'layer_slices' is empty", place=document.place(("layer_slices",)))
    return config


def _source(one: _Slice) -> Json:
    source: dict[str, Json] = {"model": one.model, "layer_range": [one.start, one.end]}
    if one.scale is not None:
        source["parameters"] = {"scale": [{"filter": "down_proj", "value": one.scale}, {"value": 1.0}]}
    return source
