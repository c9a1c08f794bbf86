"""The optimizer steps of one stage of pretraining: AdamW with warm-up and cosine, progress with time left,
and checkpoints from which a killed stage goes on as if nothing had happened."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

WARM_UP = 150  # steps, and never more than an eighth of all
SHOWN = 50  # steps between two lines of progress
KEPT = 200  # steps whose mean losses are kept


class Part(NamedTuple):
    """Parameters by name, and their learning rate as a share of the stage's."""

    parameters: Mapping[str, torch.nn.Parameter]
    pace: float = 1.0


class Progress(NamedTuple):
    """Where a stage keeps how far it has got: gone on from if it was written with the same settings."""

    file: Path
    settings: Mapping[str, Any]
    every: int  # steps between two checkpoints


class Steps:
    """The steps of one stage.

    Args:
        parts: what is trained.
        count: steps.
        name: of the stage, for its progress.
        progress: its checkpoints.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        *,
        lr: float,
        count: int,
        name: str,
        progress: Progress,
    ) -> None:
        self._named = {
            f"{part}.{key}": p for part, (parameters, _) in parts.items() for key, p in parameters.items()
        }
        self._optimizer = torch.optim.AdamW(
            [
                {"params": chosen, "weight_decay": decay, "lr": lr * pace, "base": lr * pace}
                for parameters, pace in parts.values()
                for chosen, decay in (
                    ([p for p in parameters.values() if p.ndim > 1], 0.05),
                    ([p for p in parameters.values() if p.ndim <= 1], 0.0),
                )
            ],
            betas=(0.9, 0.95),
        )
        self._count, self._name = count, name
        self._file, self._every = progress.file, progress.every
        self._settings = json.dumps(progress.settings, sort_keys=True)
        self._record: list[dict[str, float]] = []
        self.done = 0
        self._load()
        self._first, self._begun = self.done, time.monotonic()

    def steps(self) -> Iterator[int]:
        """The numbers of the steps that are still to do, from 1."""
        warm_up = max(1, min(WARM_UP, self._count // 8))
        for step in range(self.done + 1, self._count + 1):
            pace = min(1.0, step / warm_up) * (
                0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self._count))
            )
            for group in self._optimizer.param_groups:
                group["lr"] = group["base"] * pace
            yield step

    def descend(self, loss: torch.Tensor, parts: Mapping[str, torch.Tensor], images: int) -> None:
        """One step down `loss`; `parts` are its parts for the record, `images` how many it saw."""
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._named.values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._record = [*self._record, {key: value.item() for key, value in parts.items()}][-KEPT:]
        self.done += 1
        if self.done % SHOWN == 0 or self.done == self._count:
            seconds = (time.monotonic() - self._begun) / (self.done - self._first)
            means = ", ".join(f"{key} {value:.4f}" for key, value in self.last(SHOWN).items())
            left = seconds * (self._count - self.done) / 60
            print(
                f"{self._name} {self.done}/{self._count}: {means}, {images / seconds:.1f} images/s, "
                f"{left:.1f} min left",
                flush=True,
            )
        if self.done % self._every == 0:
            self._save()

    def last(self, steps: int = KEPT) -> dict[str, float]:
        """Mean losses of the last steps, of KEPT at most."""
        found = self._record[-steps:]
        return {key: round(float(np.mean([r[key] for r in found])), 4) for key in (found[0] if found else {})}

    def _save(self) -> None:
        """Writes weights and moments, whole or not at all."""
        tensors = {}
        for name, parameter in self._named.items():
            tensors[name] = parameter.data
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        about = {"done": self.done, "record": self._record}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        save_file(tensors, part, metadata={"settings": self._settings, "about": json.dumps(about)})
        part.replace(self._file)

    def _load(self) -> None:
        if not self._file.exists():
            return
        with safe_open(self._file, "pt") as file:
            about = file.metadata()
            if about["settings"] != self._settings:
                return
            kept, stored = json.loads(about["about"]), set(file.keys())
            for name, parameter in self._named.items():
                parameter.data.copy_(file.get_tensor(name))
                self._optimizer.state[parameter] = {
                    key: file.get_tensor(f"{key}/{name}").clone()
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}/{name}" in stored  # none where no gradient came
                }
        self.done, self._record = kept["done"], kept["record"]
        print(f"{self._name}: goes on after step {self.done}", flush=True)
