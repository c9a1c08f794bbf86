"""The optimizer steps of one stage of pretraining: AdamW with warm-up and cosine, progress with time left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

WARM_UP = 150  # steps


class Steps:
    """The steps of one stage: AdamW with warm-up and cosine, progress with rate and time left."""

    def __init__(
        self, groups: Sequence[tuple[list[torch.nn.Parameter], float]], lr: float, steps: int, name: str
    ) -> None:
        self._all = [p for parameters, _ in groups for p in parameters]
        self._groups = [
            {"params": chosen, "weight_decay": decay, "lr": lr * pace, "base": lr * pace}
            for parameters, pace in groups
            for chosen, decay in (
                ([p for p in parameters if p.ndim > 1], 0.05),
                ([p for p in parameters if p.ndim <= 1], 0.0),
            )
        ]
        self._optimizer = torch.optim.AdamW(self._groups, betas=(0.9, 0.95))
        self._count, self._name, self._begun = steps, name, time.monotonic()
        self._record: list[dict[str, float]] = []

    def steps(self) -> Iterator[int]:
        for step in range(1, self._count + 1):
            pace = min(1.0, step / WARM_UP) * (
                0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self._count))
            )
            for group in self._optimizer.param_groups:
                group["lr"] = group["base"] * pace
            yield step

    def descend(self, loss: torch.Tensor, parts: dict[str, torch.Tensor], images: int) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._all, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._record.append({key: value.item() for key, value in parts.items()})
        step = len(self._record)
        if step % 50 == 0 or step == self._count:
            seconds = time.monotonic() - self._begun
            means = ", ".join(f"{key} {value:.4f}" for key, value in self.last(50).items())
            left = seconds * (self._count - step) / step / 60
            rate = step * images / seconds
            print(
                f"{self._name} {step}/{self._count}: {means}, {rate:.1f} images/s, {left:.1f} min left",
                flush=True,
            )

    def last(self, steps: int = 200) -> dict[str, float]:
        """Mean losses of the last steps."""
        found = self._record[-steps:]
        return {key: round(float(np.mean([r[key] for r in found])), 4) for key in (found[0] if found else {})}
