"""Do two versions of mergecore write the same bytes?  Some thirty merges by each, digest by digest.

    python benchmarks/same_bytes.py /old/bin/mergecore /new/bin/mergecore

Both commands merge the same small models: by every method, in stacks, with vocabularies that differ, by transplants.
The digests are those of the manifests after `mergecore verify`, and the files beside the weights are compared byte
by byte, but for the manifest and the card.  The exit status is 1 when anything differs.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.checkpoints import LlamaShape, write_set
from benchmarks.methods import CASES, config_for

MANIFEST = "mergecore-manifest.json"
SPOKEN = {MANIFEST, "README.md"}
"""Files that say which version wrote them."""
SHAPE = LlamaShape(
    hidden=128, intermediate=384, layers=4, heads=4, key_value_heads=2, vocabulary=600, tied=False
)
WORDS = 29
"""How many tokens the tokenizers of `write_set` have; those after them are ours."""


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--only", multiple=True, metavar="NAME", help="Only this merge; can be given several times.")
def main(old: str, new: str, only: tuple[str, ...]) -> None:
    """Merge with the commands OLD and NEW, and print what differs."""
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        jobs = [job for job in _jobs(Path(folder)) if not only or job[0] in only]
        for name, words in jobs:
            outputs = [
                _made(command, words, Path(folder) / f"{name}-{i}") for i, command in enumerate((old, new))
            ]
            wrong = [
                key for key in {**outputs[0], **outputs[1]} if outputs[0].get(key) != outputs[1].get(key)
            ]
            different += bool(wrong)
            click.echo(f"{'differs' if wrong else 'equal  '}  {name}  {', '.join(wrong[:5])}")
    click.echo(f"{len(jobs)} merges, {different} of them differ")
    raise SystemExit(different > 0)


def _made(command: str, words: list[str], out: Path) -> Mapping[str, str]:
    """What a command writes: the digest of each tensor, the content of each file beside the weights."""
    for line in ([command, *words, str(out)], [command, "verify", str(out)]):
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{' '.join(line)}\n{done.stderr}")
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf8"))
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    small = {path.name: path.read_text(encoding="utf8") for path in files if path.name not in SPOKEN}
    return small | {name: one["digest"] for name, one in manifest["tensors"].items()}


def _jobs(root: Path) -> Iterator[tuple[str, list[str]]]:
    """The name of each merge, and its command line without the output."""
    made = write_set(root / "models", SHAPE, models=3, delta_rms=0.01)
    for number, folder in enumerate(made.folders):
        _add_words(folder / "tokenizer.json", [f"word{number}", "shared"][: number + 1])
    configs = {method: config_for(method, made.base, made.models) for method in CASES}
    configs["widened"] = config_for("linear", made.base, made.models) | {"out_dtype": "float32"}
    configs |= dict(_stacks(made.base, made.models)) | dict(_vocabularies(made.base, made.models))
    for config in configs.values():  # the vocabularies differ, which is no matter of methods and stacks
        if "tokenizer" not in config:
            config["tokenizer_source"] = "base"
    for name, config in configs.items():
        path = root / f"{name}.yml"
        path.write_text(yaml.safe_dump(config), encoding="utf8")
        yield name, ["merge", str(path)]
    for method in ("omp", "subword", "random"):
        words = ["transplant", str(made.base), str(made.models[0]), "--method", method, "-k", "4"]
        yield f"transplant-{method}", words


def _stacks(base: Path, models: tuple[Path, ...]) -> Iterator[tuple[str, dict[str, object]]]:
    one = [{"model": str(base), "layer_range": [0, 3]}]
    two = [{"model": str(models[0]), "layer_range": [1, 4]}]
    yield (
        "stack",
        {
            "merge_method": "passthrough",
            "base_model": str(base),
            "slices": [{"sources": one}, {"sources": two}],
        },
    )
    both = [{"model": str(model), "layer_range": [0, 4]} for model in (base, models[1])]
    yield (
        "gradient",
        {
            "merge_method": "slerp",
            "base_model": str(base),
            "slices": [{"sources": both}],
            "parameters": {"t": [{"filter": "mlp", "value": [0, 0.5, 1]}, {"value": 0.3}]},
            "dtype": "float32",
        },
    )


def _vocabularies(base: Path, models: tuple[Path, ...]) -> Iterator[tuple[str, dict[str, object]]]:
    listed = [{"model": str(model), "parameters": {"weight": 0.5}} for model in (base, *models[:2])]
    for source in ("union", "base", str(models[1])):
        config: dict[str, object] = {"merge_method": "linear", "models": listed, "base_model": str(base)}
        tokenizer = {"source": source, "pad_to_multiple_of": 8}
        yield f"vocabulary-{Path(source).name}", config | {"tokenizer": tokenizer, "dtype": "bfloat16"}


def _add_words(path: Path, words: list[str]) -> None:
    document = json.loads(path.read_text(encoding="utf8"))
    vocabulary = document["model"]["vocab"]
    vocabulary |= {word: WORDS + number for number, word in enumerate(words)}
    path.write_text(json.dumps(document), encoding="utf8")


if __name__ == "__main__":
    main()
