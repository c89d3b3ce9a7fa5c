"""`RunningAverageCallback`: the average of the weights during training, in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from transformers import TrainerCallback

from mergecore import ConfigError, InputError
from mergecore_plugins.averaging.callbacks.evaluating import PREFIX, check_plain, check_single, evaluate, lent
from mergecore_plugins.averaging.callbacks.target import check_name, check_target
from mergecore_plugins.averaging.callbacks.window import FOLDER_NAME

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


_RECORD = ".written"


class RunningAverageCallback(TrainerCallback):
    """Keeps the average of the weights after every step in memory, and writes it to `OUTPUT_DIR/averaged` at the end.

    The average is float32, in the memory of the host: 4 bytes for each weight.  With every checkpoint it is stored in
    `OUTPUT_DIR/averaging/running`, from where a run that is resumed goes on.

    every: after how many steps the weights join the average.
    start: the step from which on they do.
    decay: for an exponential moving average, what is left of it when weights join; None for the mean.
    out: where the average goes, in the folder of the run; `{step}` stands for the step.  It replaces an earlier one.
    trainer: evaluates the average too, after each evaluation; its metrics begin with `eval_averaged`.  This costs the
        weights once more in the memory of the host.
    """

    def __init__(
        self,
        *,
        every: int = 1,
        start: int = 0,
        decay: float | None = None,
        out: str = "averaged",
        trainer: Trainer | None = None,
    ) -> None:
        if every < 1 or (decay is not None and not 0 <= decay < 1):
            what = f"every: {every} and decay: {decay} are no way to average"
            raise ConfigError("E105", what, hint="every is 1 or more, decay from 0 up to, not including, 1")
        check_name(out)
        self.every, self.start, self.decay, self.out, self.trainer = every, start, decay, out, trainer
        self.count = 0
        """How many times weights have joined."""
        self.average: dict[str, Tensor] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Begin anew, or go on with what was stored with the checkpoint."""
        check_single(args, "RunningAverageCallback")
        check_plain(given["model"], "RunningAverageCallback")
        check_target(Path(str(args.output_dir)), self.out, _written(args).__contains__)
        self.count, self.average = 0, {}
        if state.global_step:
            self._take_up(args, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Let the weights join, and store the average before Trainer saves a checkpoint."""
        step = state.global_step
        if step >= self.start and step % self.every == 0:
            self._join(given["model"])
        if control.should_save:
            self._store(args, step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Store the average with a checkpoint that is not saved at the end of a step, and forget those of others."""
        if not _file(args, state.global_step).exists():
            self._store(args, state.global_step)
        for file in _file(args, 0).parent.glob("step-*.safetensors"):
            step = file.stem.removeprefix("step-")
            if not (Path(str(args.output_dir)) / f"checkpoint-{step}").exists():
                file.unlink()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Evaluate the average after the model."""
        of_average = any(name.startswith(PREFIX) for name in given.get("metrics") or ())
        if self.trainer is not None and self.average and not of_average:
            evaluate(self.trainer, given["model"], self._weights(given["model"]))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Write the average as a model, with the tokenizer of the run."""
        if not self.average:
            what = f"{args.output_dir}: no weights joined the average in {state.global_step} steps"
            raise InputError("E201", what, hint="choose smaller values of start and every")
        model, out = given["model"], Path(str(args.output_dir)) / self.out.format(step=state.global_step)
        _note(args, out)
        with lent(model, self._weights(model)):
            if hasattr(model, "save_pretrained"):
                model.save_pretrained(out)
            else:
                out.mkdir(parents=True, exist_ok=True)
                save_model(model, str(out / "model.safetensors"), {"format": "pt"})  # tied tensors once
        if hasattr(given.get("processing_class"), "save_pretrained"):
            given["processing_class"].save_pretrained(out)

    # ---- the average ----

    def _join(self, model: nn.Module) -> None:
        """Bring the average a part of the way to the weights of the model."""
        self.count += 1
        part = 1 / self.count if self.decay is None or self.count == 1 else 1 - self.decay
        with torch.no_grad():
            for name, one in model.state_dict().items():
                new = one.detach().to("cpu", torch.float32 if one.is_floating_point() else one.dtype)
                if self.count == 1 or not one.is_floating_point():
                    self.average[name] = new.clone(memory_format=torch.contiguous_format)
                else:
                    self.average[name].add_(new.sub(self.average[name]), alpha=part)

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The average, and what the model holds beside."""
        return {**model.state_dict(), **self.average}

    def _store(self, args: TrainingArguments, step: int) -> None:
        file = _file(args, step)
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".half")
        save_file(self.average, half, {"count": str(self.count)})
        half.rename(file)

    def _take_up(self, args: TrainingArguments, step: int) -> None:
        file = _file(args, step)
        if not file.exists():
            what = f"{os.fspath(file)}: the average of step {step} is not there, so it cannot go on"
            hint = "resume from a checkpoint that was saved with this callback"
            raise InputError("E201", what, hint=hint)
        with safe_open(file, "pt") as stored:
            self.count = int((stored.metadata() or {}).get("count", 0))
            self.average = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def _written(args: TrainingArguments) -> list[Path]:
    """The folders that averages were written to, in this run and in those before it."""
    record = _file(args, 0).with_name(_RECORD)
    names = record.read_text(encoding="utf8").splitlines() if record.exists() else []
    return [Path(str(args.output_dir)) / name for name in names]


def _note(args: TrainingArguments, out: Path) -> None:
    """Remember that `out` is an average, which a later run may replace."""
    known = dict.fromkeys([*_written(args), out])
    run, record = Path(str(args.output_dir)), _file(args, 0).with_name(_RECORD)
    record.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{os.path.relpath(one, run)}\n" for one in known]
    record.write_text("".join(lines), encoding="utf8")


def _file(args: TrainingArguments, step: int) -> Path:
    return Path(str(args.output_dir)) / FOLDER_NAME / "running" / f"step-{step}.safetensors"
