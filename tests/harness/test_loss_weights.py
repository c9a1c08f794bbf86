"""How much each entry counts, against the definitions written out; the same shared or not."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from harness import train
from harness.dataset import Collator, Images, Samples
from harness.loss_weights import LOSS_WEIGHTINGS, LossWeights
from harness.runs import RunFolder
from model_adapters.base import IGNORE
from model_adapters.registry import load_adapter


def by_definition(kind, mixture, losses):
    """`losses`: (entry, cross entropies of its tokens) for each training entry."""
    image_of = {entry.entry_id: entry.image_id for entry in mixture.entries}
    per_image, per_task = {}, {}
    for entry, _ in losses:
        per_image[image_of[entry.entry_id]] = per_image.get(image_of[entry.entry_id], 0) + 1
        per_task[entry.task] = per_task.get(entry.task, 0) + 1
    if kind == "token":
        tokens = [one for _, values in losses for one in values]
        return sum(tokens) / len(tokens)
    means = [(entry, sum(values) / len(values)) for entry, values in losses]
    if kind == "entry":
        return sum(mean for _, mean in means) / len(means)
    if kind == "task":
        of_task = {task: [mean for entry, mean in means if entry.task == task] for task in per_task}
        return sum(sum(some) / len(some) for some in of_task.values()) / len(of_task)
    weight = {entry.entry_id: 1 / math.sqrt(per_image[image_of[entry.entry_id]]) for entry, _ in losses}
    total = sum(weight[entry.entry_id] * len(values) for entry, values in losses)
    return sum(weight[entry.entry_id] * sum(values) for entry, values in losses) / total


@pytest.fixture(scope="module")
def losses(uneven_folder):
    """Cross entropies of every training entry's tokens under the untrained `tiny`, one entry at a time."""
    adapter = load_adapter("tiny")
    model = adapter.load_model(dtype=torch.float32).eval()
    mixture = read_mixture(uneven_folder)
    images = Images(uneven_folder, adapter, megabytes=64)
    found = []
    for image, entry in mixture.of_split("train"):
        opened, vision = images.get(image)
        inputs = adapter.collate(
            [adapter.encode(entry, opened, with_target=True, vision=vision)], padding_side="right"
        )
        labels = inputs.pop("labels")[0, 1:]
        with torch.no_grad():
            logits = model(**inputs).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")[labels != IGNORE]
        found.append((entry, each.tolist()))
    return found


@pytest.mark.parametrize("kind", LOSS_WEIGHTINGS)
@pytest.mark.parametrize("sharing", ["image", "none"])
@pytest.mark.parametrize("batching", ["image", "entry"])
def test_the_loss_of_a_step_over_the_whole_split(tmp_path, uneven_folder, losses, kind, sharing, batching):
    """Several micro-batches, one step: the logged loss is the definition's, and so are those of the tasks."""
    samples, parts = (3, 3) if batching == "image" else (9, 4)
    flags = ["--recipe", str(uneven_folder), "--output_dir", str(tmp_path / "run"), "--max_steps", "1"]
    flags += ["--logging_steps", "1", "--threads", "1", "--loss_weighting", kind]
    flags += ["--sharing", sharing, "--batching", batching]
    flags += ["--per_device_train_batch_size", str(samples), "--gradient_accumulation_steps", str(parts)]
    assert train.main(flags) == 0
    (line,) = RunFolder(tmp_path / "run").log()
    mixture = read_mixture(uneven_folder)
    assert line["loss"] == pytest.approx(by_definition(kind, mixture, losses), rel=2e-5)
    for task in TASKS:
        tokens = [one for entry, values in losses if entry.task == task for one in values]
        assert line[f"loss_{task}"] == pytest.approx(sum(tokens) / len(tokens), rel=2e-5)
    assert line["tokens"] <= line["tokens_unshared"]
    assert (line["tokens"] == line["tokens_unshared"]) == (sharing == "none")


def test_weights_do_not_depend_on_the_batch(uneven_folder):
    """An entry has the same weight among few others as among all."""
    adapter = load_adapter("tiny")
    images = Images(uneven_folder, adapter, megabytes=64)
    samples = Samples(read_mixture(uneven_folder), "train", images, adapter, batching="image")
    collator = Collator(adapter, sharing="image")

    def weights(kind, batch):
        entry = batch["entry"][batch["labels"] != IGNORE]
        return LossWeights(kind, samples.by_task)(entry, batch["task_id"], batch["siblings"]), entry

    everything = collator([samples[index] for index in range(len(samples))])
    alone = collator([samples[0]])
    for kind in LOSS_WEIGHTINGS:
        some, entry = weights(kind, everything)
        few, _ = weights(kind, alone)
        assert torch.allclose(some[entry < len(samples[0])], few)


@pytest.mark.slow
def test_fifty_steps_shared_and_unshared_end_at_the_same_weights(tmp_path, uneven_folder):
    """Same composition, LoRA dropout 0. Dropout draws other masks on other shapes, so it cannot be equal."""
    ends, logs = [], []
    for sharing in ("image", "none"):
        run = RunFolder(tmp_path / sharing)
        flags = ["--recipe", str(uneven_folder), "--output_dir", str(run.path), "--sharing", sharing]
        flags += ["--batching", "image", "--max_steps", "50", "--logging_steps", "10", "--threads", "1"]
        assert train.main(flags) == 0
        ends.append(load_file(run.adapter / "adapter_model.safetensors"))
        logs.append(run.log())
    shared, apart = (torch.cat([end[key].flatten() for key in sorted(end)]) for end in ends)
    assert (shared - apart).norm() / apart.norm() <= 1e-4
    for one, other in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["tokens_unshared"] == other["tokens_unshared"] == other["tokens"]
