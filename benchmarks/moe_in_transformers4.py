"""Tiny mixtures of experts of every family, loaded by another version of transformers, which gives the logits again.

    python benchmarks/moe_in_transformers4.py PYTHON

PYTHON is that of an environment with torch, safetensors and transformers 4.57 or so.  All experts of a mixture are one
dense model; the table says how far its logits in the other version are from those of the dense model in this one, and
which keys the other version missed or did not expect.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PAIRS = {
    "mixtral": ("llama", "llama-scaled", "llama-tied", "mistral", "phi3"),
    "qwen2_moe": ("llama", "mistral", "qwen2"),
    "qwen3_moe": ("qwen3", "qwen3-biases"),
    "granitemoe": ("llama", "llama-biases", "granite"),
    "granitemoeshared": ("granite",),
    "flex_olmo": ("olmo2",),
    "ernie4_5_moe": ("ernie", "helium"),
    "dots1": ("qwen3",),
    "glm4_moe": ("llama", "qwen2", "qwen3", "phi3-partial"),
    "hunyuan_v1_moe": ("hunyuan",),
}
SHARED = ("qwen2_moe", "granitemoeshared", "dots1", "glm4_moe", "hunyuan_v1_moe")

OTHER = """
import json, sys, warnings, torch, transformers
warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
from transformers import AutoModelForCausalLM
ids = torch.arange(1, 25)[None]
for line in sys.stdin:
    asked = json.loads(line)
    try:
        model, odd = AutoModelForCausalLM.from_pretrained(asked["mixture"], output_loading_info=True)
        with torch.no_grad():
            found, wanted = model.eval().float()(ids).logits, torch.load(asked["wanted"])
        said = {"distance": float((found - wanted).abs().max() / wanted.abs().max())}
        said["odd"] = {key: sorted(map(str, value))[:3] for key, value in odd.items() if value}
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"[:160]}
    print(json.dumps({"version": transformers.__version__, **said}), flush=True)
"""


def main() -> None:
    """Build the mixtures here and ask the other version of each."""
    import torch
    from tiny_moe import build, document, loaded, logits, write_dense

    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "other.py").write_text(OTHER)
        asked = []
        for family, models in PAIRS.items():
            for model in models:
                dense = folder / model
                if not dense.exists():
                    write_dense(dense, model)
                    torch.save(logits(loaded(dense)[0]), folder / f"{model}.pt")
                shared = dense if family in SHARED else None
                said = document(dense, *[dense] * 4, shared=shared, architecture=family)
                out = build(said, folder / f"{family}-{model}")
                asked.append((family, model, {"mixture": str(out), "wanted": f"{dense}.pt"}))
        lines = "".join(json.dumps(one) + "\n" for _, _, one in asked)
        done = subprocess.run(
            [sys.argv[1], folder / "other.py"], input=lines, stdout=subprocess.PIPE, text=True, check=True
        )
    for (family, model, _), line in zip(asked, done.stdout.splitlines(), strict=True):
        told = json.loads(line)
        shown = told.get("error") or f"{told['distance']:.1e}  {told['odd'] or 'no odd keys'}"
        print(f"{told['version']}  {family:17} {model:14} {shown}")


if __name__ == "__main__":
    main()
