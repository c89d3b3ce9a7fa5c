"""Makes Llama-shaped bf16 checkpoints of a chosen size: a base and models that differ as fine-tunes do.

Read `write_set` first; `python benchmarks/checkpoints.py --help` shows what can be chosen.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

BASE_SIGMA = 0.02  # spread of the weights of a pretrained Llama
DELTA_RMS = 7e-4  # what a few thousand steps of fine-tuning change, as root mean square
SHARD_BYTES = 5_000_000_000
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
BLOCK = 1 << 18  # elements made and written at once: 1 MiB of float32 stays in the cache


@dataclass(frozen=True)
class LlamaShape:
    """The numbers of config.json that decide every tensor's shape."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes in the order in which Llama checkpoints store them."""
        named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            for name, shape in self._layer().items():
                named[f"model.layers.{layer}.{name}.weight"] = shape
        named["model.norm.weight"] = (self.hidden,)
        if not self.tied:
            named["lm_head.weight"] = (self.vocabulary, self.hidden)
        return named

    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensors().values())

    def config(self) -> dict[str, str | int | float | bool | list[str]]:
        """The checkpoint's config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 8192,
            "rope_theta": 500000.0,
            "rms_norm_eps": 1e-05,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": "bfloat16",
        }

    def _layer(self) -> dict[str, tuple[int, ...]]:
        attention = self.heads * self.head_dim
        key_value = self.key_value_heads * self.head_dim
        return {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (attention, self.hidden),
            "self_attn.k_proj": (key_value, self.hidden),
            "self_attn.v_proj": (key_value, self.hidden),
            "self_attn.o_proj": (self.hidden, attention),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }


# The proportions of published models of the Llama family, smallest first.
PROPORTIONS = (
    LlamaShape(64, 192, 2, 4, 2, 1024, tied=False),
    LlamaShape(256, 768, 8, 8, 4, 8192, tied=False),
    LlamaShape(768, 2048, 11, 12, 4, 16384, tied=False),
    LlamaShape(960, 2560, 32, 15, 5, 49152, tied=True),
    LlamaShape(2048, 8192, 16, 32, 8, 128256, tied=True),
    LlamaShape(3072, 8192, 28, 24, 8, 128256, tied=True),
    LlamaShape(4096, 14336, 32, 32, 8, 128256, tied=False),
    LlamaShape(8192, 28672, 80, 64, 8, 128256, tied=False),
)


@dataclass(frozen=True)
class Checkpoints:
    """A finished set: the folder of the base, those of the other models, and what each of them holds."""

    base: Path
    models: tuple[Path, ...]
    shape: LlamaShape

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.base, *self.models)


@dataclass(frozen=True)
class Shard:
    """One safetensors file: its name, its header and where each tensor's first byte goes."""

    file: str
    header: bytes
    offsets: Mapping[str, int]
    size: int


def parse_count(text: str) -> int:
    """The number that `135M`, `1.2B` or `70B` means; plain digits are taken as they are."""
    units = {"K": 10**3, "M": 10**6, "B": 10**9}
    unit = units.get(text[-1:].upper(), 1)
    digits = text if unit == 1 else text[:-1]
    try:
        count = round(float(digits) * unit)
    except ValueError:
        count = 0
    if count <= 0:
        raise click.BadParameter(f"{text!r} is not a number of parameters; write it as 135M or 1.2B")
    return count


def shape_for(parameters: int) -> LlamaShape:
    """The published proportions nearest to a size, with just enough layers to reach it."""
    near = min(PROPORTIONS, key=lambda shape: abs(math.log(shape.parameters() / parameters)))
    one, two = (replace(near, layers=count).parameters() for count in (1, 2))
    return replace(near, layers=max(1, 1 + math.ceil((parameters - one) / (two - one))))


def split_into_shards(shape: LlamaShape, shard_bytes: int) -> list[Shard]:
    """The files of one checkpoint, filled in order; larger than `shard_bytes` only if one tensor is."""
    groups: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, dims in shape.tensors().items():
        size = 2 * math.prod(dims)
        if groups[-1] and filled + size > shard_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = dims
        filled += size
    return [_shard(index, len(groups), group) for index, group in enumerate(groups, start=1)]


def write_set(
    root: Path,
    shape: LlamaShape,
    models: int,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    delta_rms: float = DELTA_RMS,
    sparse: bool = False,
) -> Checkpoints:
    """A base and `models` relatives of it below `root`, equal for equal arguments.

    A set that is already there and was made with the same arguments is kept. `sparse` files have true headers
    and sizes but take no space: every weight reads as zero.
    """
    made = Checkpoints(root / "base", tuple(root / f"model-{i}" for i in range(1, models + 1)), shape)
    recipe = json.dumps([asdict(shape), models, seed, shard_bytes, delta_rms, sparse])
    stamp = root / "recipe.json"
    if stamp.is_file() and stamp.read_text() == recipe:
        return made
    shards = split_into_shards(shape, shard_bytes)
    for folder in made.folders:
        folder.mkdir(parents=True, exist_ok=True)
        _write_side_files(folder, shape, shards)
        for shard in shards:
            _write_header(folder / shard.file, shard)
    if not sparse:
        for shard in shards:
            _fill(made, shard, seed, delta_rms)
    stamp.write_text(recipe)
    return made


def _shard(index: int, count: int, tensors: Mapping[str, tuple[int, ...]]) -> Shard:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for name, dims in tensors.items():
        start, end = end, end + 2 * math.prod(dims)
        entries[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [start, end]}
        offsets[name] = start
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    file = "model.safetensors" if count == 1 else f"model-{index:05d}-of-{count:05d}.safetensors"
    at = {name: len(header) + start for name, start in offsets.items()}
    return Shard(file, header, at, len(header) + end)


def _write_side_files(folder: Path, shape: LlamaShape, shards: list[Shard]) -> None:
    _write_json(folder / "config.json", shape.config())
    _write_json(folder / "tokenizer.json", _tokenizer())
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL})
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": 2 * shape.parameters()},
            "weight_map": {name: shard.file for shard in shards for name in shard.offsets},
        }
        _write_json(folder / "model.safetensors.index.json", index)


def _tokenizer() -> dict[str, object]:
    """A tokenizer.json that knows a few words: enough for a tool to open and carry it."""
    words = ["<unk>", *SPECIAL.values(), *(chr(letter) for letter in range(ord("a"), ord("z") + 1))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": words[number], **flags} for number in range(3)],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _write_header(path: Path, shard: Shard) -> None:
    with path.open("wb") as file:
        file.write(shard.header)
        file.truncate(shard.size)


def _fill(made: Checkpoints, shard: Shard, seed: int, delta_rms: float) -> None:
    """Writes the weights of one shard of every model, block by block on two threads."""
    with ExitStack() as stack:
        files = [stack.enter_context((folder / shard.file).open("r+b")) for folder in made.folders]
        pool = stack.enter_context(ThreadPoolExecutor(2))
        descriptors = [file.fileno() for file in files]
        jobs = [
            pool.submit(_write_block, descriptors, block, seed, delta_rms)
            for block in _blocks(shard, made.shape.tensors())
        ]
        for job in jobs:
            job.result()


@dataclass(frozen=True)
class _Block:
    name: str
    number: int
    elements: int
    offset: int
    mean: float


def _blocks(shard: Shard, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[_Block]:
    for name, start in shard.offsets.items():
        total = math.prod(shapes[name])
        mean = 1.0 if len(shapes[name]) == 1 else 0.0  # norms are near one
        for number, first in enumerate(range(0, total, BLOCK)):
            yield _Block(name, number, min(BLOCK, total - first), start + 2 * first, mean)


def _write_block(files: list[int], block: _Block, seed: int, delta_rms: float) -> None:
    """Base = noise around the mean; each model = base + noise of its own, both rounded to bf16 once."""
    import torch

    generator = torch.Generator()
    base = torch.empty(block.elements)
    noise = torch.empty(block.elements)
    for model, file in enumerate(files):
        generator.manual_seed(_seed(f"{seed}/{block.name}/{block.number}/{model}"))
        if model == 0:
            values = base.normal_(block.mean, BASE_SIGMA, generator=generator)
        else:
            values = noise.normal_(0.0, delta_rms, generator=generator).add_(base)
        _write_all(file, values.bfloat16().view(torch.uint8).numpy().data, block.offset)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _write_all(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--parameters", default="0.1B", help="Size of each model: 135M, 0.1B, 1.2B, 70B.")
@click.option("--models", default=3, type=click.IntRange(1), help="How many models beside the base.")
@click.option("--seed", default=0, help="Another seed, other weights.")
@click.option("--shard-size", default="5B", help="Largest file in bytes, written like --parameters.")
@click.option("--delta-rms", default=DELTA_RMS, help="Root mean square of model minus base.")
@click.option(
    "--sparse", is_flag=True, help="True headers and sizes, no weights, no space: enough for planning."
)
def main(
    out: Path, parameters: str, models: int, seed: int, shard_size: str, delta_rms: float, sparse: bool
) -> None:
    """Write OUT/base and OUT/model-1, OUT/model-2, …"""
    import torch

    torch.set_num_threads(1)
    shape = shape_for(parse_count(parameters))
    made = write_set(out, shape, models, seed, parse_count(shard_size), delta_rms, sparse)
    click.echo(f"{len(made.folders)} checkpoints of {shape.parameters() / 1e9:.3f} B parameters in {out}")


if __name__ == "__main__":
    main()
