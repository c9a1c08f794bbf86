"""One cell of the study: pretrain on a source with a seed, fine-tune on every target, measure the errors."""

from __future__ import annotations

import math
from typing import Any
from zlib import crc32

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from data_recipes.errors import UserError
from taco_probe.taco.transfer.material import Examples, Material
from taco_probe.taco.transfer.unet import UNet

METHOD = 1  # counts changes of what is measured: cells of another number are measured again


class Budget(BaseModel):
    """How much each network may learn. All defaults are ours.

    Attributes:
        pretrain_steps, pretrain_batch: on the source.
        fine_tune_steps, fine_tune_batch: on the target; the network from scratch has these alone.
        examples: of the target, of all datasets together.
        learning_rate: AdamW's, with a cosine to 0, for both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pretrain_steps: int = Field(default=300, ge=1)
    pretrain_batch: int = Field(default=16, ge=1)
    fine_tune_steps: int = Field(default=60, ge=1)
    fine_tune_batch: int = Field(default=8, ge=1)
    examples: int = Field(default=24, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)


def cell(
    material: Material, source: str, seed: int, budget: Budget, device: str = "cpu"
) -> list[list[float]]:
    """(T, datasets) mean squared errors, pixels in 0..1, of the targets; `source` "" is from scratch.

    Of one seed all sources begin with the same weights, and a target is fine-tuned on the same examples in
    the same order whatever the source.

    Raises:
        UserError: an error that is not finite.
    """
    begun = new(seed, device)
    if source:
        learn(begun, material.source[source], budget.pretrain_steps, budget.pretrain_batch, budget,
              rng=stream(seed, "pretrain", source))  # fmt: skip
    found = []
    for target in material.tasks:
        net = new(seed, device)
        net.load_state_dict(begun.state_dict())
        few = drawn(material.few[target], budget.examples, stream(seed, "examples", target))
        learn(net, few, budget.fine_tune_steps, budget.fine_tune_batch, budget,
              rng=stream(seed, "fine-tune", target))  # fmt: skip
        errors = error(net, material.measured[target])
        found.append(errors)
        if not all(map(math.isfinite, errors)):
            raise UserError(f"transfer from {source or 'scratch'} to {target}: the error is not finite")
    return found


def new(seed: int, device: str = "cpu") -> UNet:
    """A network with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def stream(seed: int, *names: str) -> np.random.Generator:
    """A source of chance of its own for a seed and names."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def drawn(examples: Examples, count: int, rng: np.random.Generator) -> Examples:
    """`count` of the examples, or all, as evenly over datasets as there are some."""
    datasets = examples.dataset.numpy()
    turn = np.zeros(len(datasets))
    order = rng.permutation(len(datasets))
    for number in np.unique(datasets):
        mine = order[datasets[order] == number]
        turn[mine] = np.arange(len(mine))
    chosen = torch.from_numpy(order[np.argsort(turn[order], kind="stable")][:count])
    return Examples(examples.inputs[chosen], examples.targets[chosen], examples.dataset[chosen])


def learn(
    net: UNet, examples: Examples, steps: int, batch: int, budget: Budget, *, rng: np.random.Generator
) -> None:
    """Trains in place to the least mean squared error; a batch has as many of each dataset as chance gives,
    datasets being equally likely."""
    device = next(net.parameters()).device
    optimizer = torch.optim.AdamW(net.parameters(), lr=budget.learning_rate, weight_decay=1e-4)
    datasets = examples.dataset.numpy()
    chance = (1 / np.bincount(datasets, minlength=datasets.max() + 1))[datasets]
    chance /= chance.sum()
    net.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        at = torch.from_numpy(rng.choice(len(datasets), batch, p=chance))
        inputs, targets = (as_batch(pixels[at], device) for pixels in (examples.inputs, examples.targets))
        loss = torch.nn.functional.mse_loss(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def error(net: UNet, examples: Examples, batch: int = 32) -> list[float]:
    """Mean squared error of each dataset's instances, outputs cut to 0..1."""
    device = next(net.parameters()).device
    net.eval()
    found: list[torch.Tensor] = []
    for first in range(0, len(examples), batch):
        part = slice(first, first + batch)
        made = net(as_batch(examples.inputs[part], device)).clamp(0, 1)
        found.append(((made - as_batch(examples.targets[part], device)) ** 2).mean(dim=(1, 2, 3)).cpu())
    every, datasets = torch.cat(found), examples.dataset
    return [float(every[datasets == number].mean()) for number in range(int(datasets.max()) + 1)]


def as_batch(pixels: torch.Tensor, device: Any) -> torch.Tensor:
    """uint8 to 0..1 on the device."""
    return pixels.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
