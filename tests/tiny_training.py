"""A run of Trainer for a test, perhaps in a process of its own: `python tiny_training.py FOLDER SETTINGS`.

SETTINGS are JSON.  steps: how many; save: after how many Trainer saves; limit: its save_total_limit; kill: the step
before which the process kills itself; saved, running: parameters of the callbacks; evaluate: whether they do; resume:
from where; watch: evaluate without them.
It prints the log of the run as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from mergecore_plugins.averaging import AveragingCallback, RunningAverageCallback


class Killed(TrainerCallback):
    """Ends the process as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=16,
        max_position_embeddings=32,
        attention_dropout=0.1,
    )
    return LlamaForCausalLM(config)


class Plain(nn.Module):
    """A module that transformers knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.inner(x) - labels) ** 2).mean()}


def examples(kind: str) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    if kind == "plain":
        numbers = [torch.randn(4, generator=generator) for _ in range(64)]
        return [{"x": one, "labels": one.flip(0)} for one in numbers]
    rows = [torch.randint(0, 16, (8,), generator=generator) for _ in range(64)]
    return [{"input_ids": one, "labels": one} for one in rows]


def train(folder: str, settings: dict[str, Any]) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    kind = settings.get("kind", "llama")
    model: nn.Module = Plain() if kind == "plain" else tiny_model()
    if kind == "peft":
        from peft import LoraConfig, get_peft_model

        base = settings.get("base")
        inner = LlamaForCausalLM.from_pretrained(base) if base else tiny_model()
        model = get_peft_model(inner, LoraConfig(r=2, target_modules=["q_proj"]))
    data = examples(kind)
    arguments = TrainingArguments(
        folder,
        max_steps=settings.get("steps", 10),
        save_steps=settings.get("save", 2),
        save_strategy=settings.get("strategy", "steps"),
        save_total_limit=settings.get("limit"),
        eval_strategy="steps" if settings.get("evaluate") or settings.get("watch") else "no",
        eval_steps=settings.get("save", 2),
        logging_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:8])
    with_trainer: dict[str, Any] = {"trainer": trainer} if settings.get("evaluate") else {}
    if "saved" in settings:
        trainer.add_callback(AveragingCallback(**settings["saved"], **with_trainer))
    if "running" in settings:
        trainer.add_callback(RunningAverageCallback(**settings["running"], **with_trainer))
    if "kill" in settings:
        trainer.add_callback(Killed(settings["kill"]))
    trainer.train(resume_from_checkpoint=settings.get("resume"))
    return list(trainer.state.log_history)


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(train(sys.argv[1], json.loads(sys.argv[2]))))
