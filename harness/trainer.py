"""The Trainer: its loss, measured for each task as well; whole checkpoints; batches with little padding.

Legend: B rows, L tokens, N trained tokens (labels that are not IGNORE), E entries, T tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from data_recipes.errors import UserError
from data_recipes.tasks import TASKS
from harness.checkpoints import seal
from harness.dataset import Samples, UpdateSampler
from harness.loss_weights import LossWeights
from model_adapters.adapter import Adapter
from model_adapters.base import IGNORE
from model_adapters.losses import predicts, token_losses


class HarnessTrainer(Trainer):  # type: ignore[misc]
    """`transformers.Trainer` on batches of `dataset.Collator`, shared sequences or not.

    The loss is a weighted mean over tokens (see `loss_weights`), by default the plain one. Every logging step
    gains `loss_<task>` (plain mean over that task's trained tokens, the same logits), and over the logging
    window `entries_per_second`, `tokens_per_second`, `tokens` (that the model was fed, padding aside) and
    `tokens_unshared` (that it would have been fed without sharing), all summed over processes.
    """

    def __init__(
        self, *, adapter: Adapter, weighting: str = "token", schedule: tuple[int, int] = (0, 0), **kwargs: Any
    ) -> None:
        """schedule: steps of the learning rate's schedule that lie before this training, and in all; (0, 0)
        where it has one of its own."""
        super().__init__(compute_loss_func=self._weighted_mean, **kwargs)
        self._adapter = adapter
        self._schedule = schedule
        samples = kwargs.get("train_dataset")
        by_task = samples.by_task if isinstance(samples, Samples) else [1] * len(TASKS)
        self._weights = LossWeights(weighting, by_task)
        # Sums over the logging window: (loss, tokens) by task; entries; tokens fed, tokens without sharing.
        self._window = torch.zeros(len(TASKS) + 2, 2, dtype=torch.float64)
        self._since = time.perf_counter()
        self._facts: dict[str, torch.Tensor] = {}

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        self._facts = {key: inputs.pop(key) for key in ("entry", "task_id", "siblings")}
        tokens = inputs.pop("tokens")
        if model.training:
            self._window[-2, 0] += len(self._facts["task_id"])
            self._window[-1] += tokens.cpu()
        self._facts["places"] = predicts(inputs["labels"])
        masked = self._adapter.with_mask(inputs, self.model)
        # Of no use in training: a cache of keys and values, and logits that no label asks for.
        masked |= {"use_cache": False, "logits_to_keep": self._facts["places"]}
        return super().compute_loss(model, masked, *args, **kwargs)

    def _weighted_mean(
        self,
        outputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross entropy times weight, summed over the trained tokens, by the weights of the whole step."""
        after = self._facts["places"] + 1
        losses, entry = token_losses(
            outputs["logits"],
            labels[:, after],
            self._facts["entry"][:, after],
            self.args.label_smoothing_factor,
        )
        if torch.is_grad_enabled():
            self._window[:-2] += sums_by_task(losses.detach(), self._facts["task_id"][entry]).cpu()
        weights = self._weights(entry, self._facts["task_id"], self._facts["siblings"])
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        return (losses * weights).sum() / total

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """The weights of all tokens of the step, over its micro-batches and processes."""
        total = torch.zeros((), device=device)
        for batch in batch_samples:
            entry = batch["entry"][:, 1:][batch["labels"][:, 1:] != IGNORE]
            total += self._weights(entry, batch["task_id"], batch["siblings"]).sum().to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total[None]).sum()
        return total

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        before, whole = self._schedule
        if not whole:
            return super().create_scheduler(num_training_steps, optimizer)
        found = super().create_scheduler(whole, optimizer)
        if not isinstance(found, LambdaLR):
            raise UserError(
                f"--lr_scheduler_type {self.args.lr_scheduler_type}: a part of a longer schedule needs one "
                "that follows from the step alone, such as cosine, linear or constant_with_warmup"
            )
        shifted: list[Callable[[int], float]] = [
            lambda step, at=at: at(step + before)  # type: ignore[misc]
            for at in found.lr_lambdas
        ]
        self.lr_scheduler = LambdaLR(found.optimizer, shifted)
        return self.lr_scheduler

    def pause(self, seconds: float) -> None:
        """Takes time that was not spent on training out of the rates of the logging window."""
        self._since += seconds

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= self._close_window()
        super().log(logs, *args, **kwargs)

    def _close_window(self) -> dict[str, float]:
        sums = self.accelerator.reduce(self._window.to(self.args.device), "sum").cpu()
        seconds = time.perf_counter() - self._since
        self._window.zero_()
        self._since = time.perf_counter()
        by_task = {
            f"loss_{task}": float(total / count)
            for task, (total, count) in zip(TASKS, sums[:-2], strict=True)
            if count
        }
        entries, (fed, unshared) = float(sums[-2, 0]), sums[-1].tolist()
        return by_task | {
            "entries_per_second": entries / seconds,
            "tokens_per_second": fed / seconds,
            "tokens": fed,
            "tokens_unshared": unshared,
        }

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        if not isinstance(dataset, Samples) or self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        per_update = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return UpdateSampler(dataset.weights, per_update, seed=seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # Old checkpoints go only after the new one is sealed: a kill at any moment leaves a whole one.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
            rotate_checkpoints(
                output_dir=self.args.output_dir,
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )


def sums_by_task(losses: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    """Sum and number of the losses (N,) of each task: (T, 2), for task indices (N,) into TASKS."""
    values = torch.stack([losses, torch.ones_like(losses)], dim=1)
    return values.new_zeros(len(TASKS), 2).index_add_(0, task, values)
