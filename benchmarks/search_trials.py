"""How long a trial of a search takes, as a multiple of merging and evaluating the same config by hand.

`python benchmarks/search_trials.py` prints it for the models of `mergecore demo`, and for random ones of 90 M
parameters.  By hand means: plan, merge in memory, make the module, evaluate.  Both are done for each point in turn, in
one process with one thread, and what counts is the time of the processor.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

import click
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mergecore import plan
from mergecore_plugins.commands.demo import demo
from mergecore_plugins.evaluation.evaluating import evaluate
from mergecore_plugins.evaluation.models import Place, opened
from mergecore_plugins.evaluation.specs import read_file
from mergecore_plugins.search.driving import Task
from mergecore_plugins.search.judging.bench import Asked
from mergecore_plugins.search.searching import Prepared, prepared

ANIMALS = ("cow", "owl", "dog", "cat", "pig", "duck")
SOUNDS = ("moo", "hoot", "woof", "meow", "oink", "quack")


@click.command()
@click.option("--trials", default=15, show_default=True, help="Points of each size.")
@click.option("--lines", default=48, show_default=True, help="Lines of text that each is evaluated on.")
def main(trials: int, lines: int) -> None:
    """Print the ratio of the times, for small and larger models."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = folder
        with redirect_stdout(StringIO()):
            demo.main([], standalone_mode=False)
        talk = Path("mergecore-demo/talk")
        draw = random.Random(0)
        texts = [f"the {draw.choice(ANIMALS)} says {draw.choice(SOUNDS)}" for _ in range(lines)]
        Path("dev.txt").write_text("\n".join(texts) + "\n")
        for name, models in (("demo", talk), ("90 M", _larger(talk))):
            ratios = [*_ratios(models, trials)]
            shown = f"{min(ratios):.2f} to {max(ratios):.2f}"
            click.echo(
                f"{name}: a trial takes {median(ratios):.2f} times as long as by hand ({shown}, {trials} points)"
            )


def _larger(talk: Path) -> Path:
    """Random models with the tokenizer of the small ones."""
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    small = AutoConfig.from_pretrained(talk / "base")
    settings = LlamaConfig(
        vocab_size=small.vocab_size,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=512,
        bos_token_id=small.bos_token_id,
        eos_token_id=small.eos_token_id,
    )
    for seed, name in enumerate(("base", "animals", "capitals")):
        torch.manual_seed(seed)
        target = Path("larger") / name
        LlamaForCausalLM(settings).bfloat16().save_pretrained(target)
        for file in (talk / name).glob("*token*"):
            shutil.copy(file, target)
    return Path("larger")


def _ratios(models: Path, trials: int) -> Iterator[float]:
    """For each point, the time of a trial over that of doing it by hand."""
    made = _prepared(models, trials)
    [evaluation] = read_file(Path("eval.yml"), made.bench.workshop.place.registry)
    draw = random.Random(1)
    for number in range(trials + 1):
        point = {one.name: draw.uniform(one.low, one.high) for one in made.request.dimensions}  # type: ignore[union-attr]
        begun = time.process_time()
        trial = made.bench.score(Task(number, point))
        between = time.process_time()
        place = Place(made.bench.workshop.place.registry)
        planned = plan(made.search.space.documents_at(point), registry=place.registry)
        [result] = evaluate(opened(planned, place=place), [evaluation], place.registry)
        ended = time.process_time()
        if trial.scores[0].value != result.scores[0].value:
            raise SystemExit(f"point {number}: {trial.scores[0].value} is not {result.scores[0].value}")
        if number:  # the first one loads what both need
            yield (between - begun) / (ended - between)


def _prepared(models: Path, trials: int) -> Prepared:
    evaluator = {"evaluator": "perplexity", "texts": "dev.txt", "split": "line"}
    Path("eval.yml").write_text(yaml.safe_dump({"evaluators": [evaluator]}))
    config = {
        "merge_method": "task_arithmetic",
        "base_model": f"{models}/base",
        "models": [
            {"model": f"{models}/{name}", "parameters": {"weight": f"WEIGHT{name}"}}
            for name in ("animals", "capitals")
        ],
        "search": {"trials": trials, "sampler": "random", "prune": False, "objectives": [evaluator]},
    }
    text = yaml.safe_dump(config)
    for name in ("animals", "capitals"):
        text = text.replace(f"WEIGHT{name}", "!range [0, 1.5]")
    Path("search.yml").write_text(text)
    return prepared(Asked("search.yml", json.dumps({}), threads=1))


if __name__ == "__main__":
    main()
