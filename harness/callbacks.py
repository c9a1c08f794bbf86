"""What happens at the Trainer's steps beside training: train.jsonl, the progress bar, the diary."""

from __future__ import annotations

import datetime
import json
import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.provenance import Diary
from harness.runs import RunFolder

# What a line of train.jsonl holds beside `step` and the losses.
_RATES = ("learning_rate", "entries_per_second", "tokens_per_second", "tokens", "tokens_unshared")


def _losses(state: TrainerState, logs: dict[str, float] | None) -> dict[str, float]:
    """What a log of training says; empty for other logs (a summary at the end), and off the main process."""
    return logs if logs and "loss" in logs and state.is_world_process_zero else {}


class LogToFile(TrainerCallback):  # type: ignore[misc]
    """Appends a line to train.jsonl at every logging step, and logs at every checkpoint.

    The latter empties the running sums before a checkpoint is written, so that a run that goes on from there
    writes the same lines as an unbroken one.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        control.should_log |= control.should_save
        return control

    on_epoch_end = on_step_end

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not (logs := _losses(state, logs)):
            return
        kept = {key: logs[key] for key in logs if key.startswith("loss") or key in _RATES}
        with self._run.log_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": state.global_step, **kept}) + "\n")


class KeepDiary(TrainerCallback):  # type: ignore[misc]
    """Notes in provenance.json how far the run has come, at every checkpoint."""

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._diary.note(state.global_step)


class Progress(TrainerCallback):  # type: ignore[misc]
    """A bar with loss, rate and time left; where stderr is no terminal, a line at every logging step."""

    def __init__(self, stage: str = "") -> None:
        self._stage = f"{stage}: " if stage else ""
        self._bar: Any = None
        self._start, self._first = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._start, self._first = time.monotonic(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty() and not args.disable_tqdm:
            self._bar = tqdm(
                desc=self._stage.removesuffix(": ") or None,
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                dynamic_ncols=True,
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not (logs := _losses(state, logs)):
            return
        loss, rate = f"{logs['loss']:.4f}", f"{logs['entries_per_second']:.1f}"
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss}, {rate} entries/s")
            return
        done = state.global_step - self._first
        left = (time.monotonic() - self._start) / done * (state.max_steps - state.global_step)
        print(
            f"{self._stage}step {state.global_step}/{state.max_steps}  loss {loss}  {rate} entries/s  "
            f"{datetime.timedelta(seconds=round(left))} left",
            file=sys.stderr,
            flush=True,
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
