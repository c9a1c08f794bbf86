"""The Trainer: its loss, measured for each task as well; whole checkpoints; batches with little padding.

Legend: B samples, L tokens, V vocabulary, N trained tokens (labels that are not IGNORE), T tasks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from data_recipes.tasks import TASKS
from harness.checkpoints import seal
from harness.dataset import EntryDataset, UpdateSampler
from model_adapters.base import IGNORE


class HarnessTrainer(Trainer):  # type: ignore[misc]
    """`transformers.Trainer` with the mean over tokens as loss, which it also reports for each task.

    Every logging step gains `loss_<task>` (mean over that task's trained tokens, the same logits), and over
    the logging window `entries_per_second` and `tokens_per_second` (tokens of text and image, no padding),
    all summed over processes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(compute_loss_func=self._mean_over_tokens, **kwargs)
        self._window = torch.zeros(len(TASKS) + 1, 2, dtype=torch.float64)
        self._since = time.perf_counter()
        self._task_id = torch.zeros(0)

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        self._task_id = inputs.pop("task_id")
        if model.training:
            entries_tokens = [len(self._task_id), int(inputs["attention_mask"].sum())]
            self._window[-1] += torch.tensor(entries_tokens)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _mean_over_tokens(
        self,
        outputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross entropy summed over the trained tokens, by their number in the whole optimizer step."""
        losses, row = token_losses(outputs["logits"], labels, self.args.label_smoothing_factor)
        if torch.is_grad_enabled():
            self._window[:-1] += sums_by_task(losses.detach(), self._task_id[row]).cpu()
        return losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)

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
            for task, (total, count) in zip(TASKS, sums[:-1], strict=True)
            if count
        }
        entries, tokens = (float(value) / seconds for value in sums[-1])
        return by_task | {"entries_per_second": entries, "tokens_per_second": tokens}

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        if not isinstance(dataset, EntryDataset) or self.args.train_sampling_strategy != "random":
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


def token_losses(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of each trained token.

    Args:
        logits: (B, L, V); position l predicts token l + 1.
        labels: (B, L), IGNORE where nothing is trained.

    Returns:
        losses (N,) in nats, float32 at least, and the row (N,) of the batch that each belongs to.
    """
    target = labels[:, 1:]
    trained = target != IGNORE
    # Only trained positions become float32: for a large vocabulary, full float32 logits would not fit.
    chosen = logits[:, :-1][trained].float()
    losses = F.cross_entropy(chosen, target[trained], reduction="none", label_smoothing=smoothing)
    return losses, trained.nonzero()[:, 0]


def sums_by_task(losses: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    """Sum and number of the losses (N,) of each task: (T, 2), for task indices (N,) into TASKS."""
    values = torch.stack([losses, torch.ones_like(losses)], dim=1)
    return values.new_zeros(len(TASKS), 2).index_add_(0, task, values)
