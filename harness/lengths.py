"""How many optimizer steps a training takes."""

from __future__ import annotations

import math

from transformers import TrainingArguments

from data_recipes.records import Mixture
from data_recipes.stats import density
from harness.config import Settings


def samples_of_step(training: TrainingArguments) -> int:
    """Samples (entries, or images with their entries) of an optimizer step, over all processes."""
    return int(training.train_batch_size * training.gradient_accumulation_steps * training.world_size)


def steps_of_epoch(samples: int, training: TrainingArguments) -> int:
    """Optimizer steps of a pass over so many samples, as the Trainer counts them: each process rounds its
    share of the batches up, and a step that is not full counts."""
    batches = math.ceil(math.ceil(samples / int(training.train_batch_size)) / int(training.world_size))
    return max(1, math.ceil(batches / int(training.gradient_accumulation_steps)))


def budget_steps(settings: Settings, mixture: Mixture) -> int | None:
    """The steps that a mixture asks for which is to be compared at equal steps: those of as many epochs of
    the mixture that it is matched to. None where it asks for none."""
    budget = (mixture.meta.get("budget") or {}).get("train_entries")
    if not budget:
        return None
    entries = 1.0
    if settings.data.batching == "image":
        entries = density(mixture.images, mixture.entries)["entries_per_image"]
    drawn: float = float(budget) * settings.training.num_train_epochs
    return math.ceil(drawn / (entries * samples_of_step(settings.training)))
