"""`AveragingCallback`: the checkpoints that Trainer saves, averaged on the way or at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from transformers import TrainerCallback

from mergecore import ConfigError, InputError, RunOptions, execute, plan
from mergecore.types import Display
from mergecore_plugins.averaging.callbacks.evaluating import check_plain, check_single, evaluate
from mergecore_plugins.averaging.callbacks.target import check_name, check_target
from mergecore_plugins.averaging.callbacks.window import Kept
from mergecore_plugins.averaging.choosing import Window, chosen, config_of
from mergecore_plugins.averaging.runs import read_run
from mergecore_plugins.methods.common import DECAY, Schedule

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


class AveragingCallback(TrainerCallback):
    """Averages the newest checkpoints of a run into `OUTPUT_DIR/averaged`, as `mergecore average` does.

    The checkpoints of the window are kept in `OUTPUT_DIR/averaging`, as hard links and without optimizers, so that
    `save_total_limit` may be smaller than `last`.  All of its state is in these folders: a run that is resumed goes on.

    last: how many of the newest checkpoints are averaged.
    schedule, decay: how they are weighted, as for the method `average`.
    at: when: at the "end", at each "save", or at a step or several, at which Trainer then saves too.
    out: where the average goes, in the folder of the run; `{step}` stands for the step.  It replaces an earlier one.
    trainer: evaluates each average too; its metrics begin with `eval_averaged`.  This costs the weights twice more in
        the memory of the host, once for the average and once for those of the model in the meantime.
    """

    def __init__(
        self,
        *,
        last: int = 5,
        schedule: Schedule = "uniform",
        decay: float = DECAY,
        at: Literal["end", "save"] | int | Collection[int] = "end",
        out: str = "averaged",
        trainer: Trainer | None = None,
    ) -> None:
        if last < 2:
            hint = "average two checkpoints or more"
            raise ConfigError("E105", f"last: {last} checkpoints have no average", hint=hint)
        at = (at,) if isinstance(at, int) else at
        if isinstance(at, str) and at not in ("end", "save"):
            hint = "write 'end', 'save', or a list of steps"
            raise ConfigError("E105", f"at: '{at}' is not a time to average", hint=hint)
        check_name(out)
        self.last, self.schedule, self.decay, self.at, self.out = last, schedule, decay, at, out
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Go on with what is kept from before."""
        if str(getattr(args.save_strategy, "value", args.save_strategy)) == "no":
            what = "save_strategy is 'no', so there are no checkpoints to average"
            raise ConfigError("E105", what, hint="let Trainer save, or use RunningAverageCallback")
        if self.trainer is not None:
            check_single(args, "trainer")
            check_plain(given["model"], "trainer")
        if state.is_world_process_zero:
            check_target(Path(str(args.output_dir)), self.out, _is_merged)
            self._kept(args).begin(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Have Trainer save where an average is wanted."""
        if self._wanted(state):
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Keep the checkpoint, and average where that is wanted now."""
        if not state.is_world_process_zero:
            return
        self._kept(args).add(state.global_step)
        _describe(self._kept(args).folder / f"checkpoint-{state.global_step}", given)
        if self.at == "save" or self._wanted(state):
            self._average(args, state, given["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Average where that is wanted at the end."""
        if self.at == "end" and state.is_world_process_zero:
            if len(self._kept(args).steps) < 2:
                what = (
                    f"{args.output_dir}: the run saved fewer than two checkpoints, and an average needs two"
                )
                raise InputError("E201", what, hint="save more often: save_steps")
            self._average(args, state, given["model"])

    def _wanted(self, state: TrainerState) -> bool:
        return not isinstance(self.at, str) and state.global_step in self.at

    def _kept(self, args: TrainingArguments) -> Kept:
        return Kept(Path(str(args.output_dir)), self.last)

    def _average(self, args: TrainingArguments, state: TrainerState, model: nn.Module) -> None:
        kept = self._kept(args)
        if len(kept.steps) < 2:
            return  # the first checkpoint of the run
        found = chosen(read_run(kept.folder), Window(last=len(kept.steps)))
        target = Path(str(args.output_dir)) / self.out.format(step=state.global_step)
        quiet = RunOptions(mode="restart", overwrite=True, display=Display(style="none"))
        execute(plan(config_of(found, self.schedule, self.decay)), target, options=quiet)
        if self.trainer is not None:
            evaluate(self.trainer, model, _weights(model, target))


def _is_merged(folder: Path) -> bool:
    return (folder / "mergecore-manifest.json").exists()


def _describe(folder: Path, given: Mapping[str, Any]) -> None:
    """Put config and tokenizer beside weights that were saved without them, as shards are."""
    if not (folder / "config.json").exists() and hasattr(given["model"], "config"):
        parts: list[Any] = [given["model"].config, given.get("processing_class")]
        for part in parts:
            if hasattr(part, "save_pretrained"):
                part.save_pretrained(folder)


def _weights(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The weights in a folder, by the names that they have in the model."""
    if hasattr(model, "from_pretrained"):  # it may store them under other names
        kind: Any = type(model)
        return dict(kind.from_pretrained(folder).state_dict())
    from safetensors.torch import load_file

    made = deepcopy(model).cpu()
    stored = {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}
    made.load_state_dict(stored, strict=False)  # tensors that are tied are stored once
    return dict(made.state_dict())
