"""Models for the fuzzer: their tensors, as they are stored, and the folders that hold them.

The bytes of files are made here from the description of the format, so that reader and writer share nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.reference.arrays import Array
from fuzz.reference.formats import encoded, stored


@dataclass
class Model:
    """A model in memory: tensors in float64, exactly as stored, and their formats."""

    name: str
    tensors: dict[str, Array]
    dtypes: dict[str, str]
    config: dict[str, Any]
    files: Mapping[str, Any] = field(default_factory=dict)
    """JSON documents beside the weights, by file name."""
    shards: int = 1


def model(
    name: str, tensors: Mapping[str, Array], dtypes: Mapping[str, str], config: dict[str, Any]
) -> Model:
    """A model whose tensors are rounded to their formats."""
    held = {key: stored(np.asarray(one), dtypes[key]) for key, one in tensors.items()}
    return Model(name, held, dict(dtypes), config)


def write(one: Model, parent: Path) -> Path:
    """Write a model into a folder of its name; the folder."""
    folder = parent / one.name
    folder.mkdir(parents=True)
    names = list(one.tensors)
    parts = [names[i :: one.shards] for i in range(one.shards)]
    parts = [part for part in parts if part] or [[]]
    if len(parts) == 1:
        _write_file(folder / "model.safetensors", one, parts[0])
    else:
        files = [f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
        for file, part in zip(files, parts, strict=True):
            _write_file(folder / file, one, part)
        where = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        size = sum(len(encoded(one.tensors[n], one.dtypes[n])) for n in names)
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name, document in {"config.json": one.config, **one.files}.items():
        (folder / name).write_text(json.dumps(document, ensure_ascii=False))
    return folder


def _write_file(path: Path, one: Model, names: Sequence[str]) -> None:
    """Write some tensors as one safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data, at = [], 0
    for name in names:
        array = one.tensors[name]
        part = encoded(array, one.dtypes[name])
        header[name] = {
            "dtype": one.dtypes[name],
            "shape": list(array.shape),
            "data_offsets": [at, at + len(part)],
        }
        data.append(part)
        at += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def llama_shapes(layers: int, tied: bool, rows: int, hidden: int = 8) -> dict[str, tuple[int, ...]]:
    """The tensors of a Llama with two heads."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{part}_proj.weight": (hidden, hidden) for part in "qkvo"}
        shapes |= {f"{at}mlp.{part}_proj.weight": (12, hidden) for part in ("gate", "up")}
        shapes[at + "mlp.down_proj.weight"] = (hidden, 12)
        shapes |= {f"{at}{part}_layernorm.weight": (hidden,) for part in ("input", "post_attention")}
    shapes["model.norm.weight"] = (hidden,)
    return shapes if tied else shapes | {"lm_head.weight": (rows, hidden)}


def llama_config(layers: int, tied: bool, rows: int, hidden: int = 8) -> dict[str, Any]:
    """Its config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 12,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": rows,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
