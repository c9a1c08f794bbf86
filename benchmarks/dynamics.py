"""What the Gram matrix of 256 entries' LoRA gradients costs: over one plain forward and backward pass of the same
entries, and against three other ways to it.

    python -m benchmarks.dynamics [--runs 5] [--entries 256] [--batch 16] [--shapes tiny_64 llava_576]

Two models: the default `tiny` (64 image tokens), and LLaVA's shape at 336 pixels (576 image tokens) with few and
narrow layers and random weights. The peers: a loop over batches of one that keeps every gradient; torchjd's
Gramian engine; per-sample gradients by torch.func. torchjd takes one batch only, so where all entries in one
would not fit into memory it is measured on `--part` of them and counted at the same rate, which favours it: the
number of its products grows with the square. torch.func cannot trace the model's inputs and masks, so it gets them
ready made, outside its time, and does the language model only.

Memory is the peak of a process of its own over that of the plain pass, against n r (d + p) floats, the n
gradients.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from benchmarks.alternating import Spent, alternate, conclude, show
from benchmarks.shapes import SHAPES, shape, typical
from benchmarks.sharing import memory
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.store import read_mixture
from harness import be_quiet
from harness.dataset import FACTS, Images, Samples
from model_adapters.adapter import Adapter
from taco_probe.dynamics.forms import Factor, Gauge
from taco_probe.dynamics.gram import measure
from taco_probe.dynamics.hooks import measuring
from taco_probe.dynamics.losses import EntryLosses

PEERS = ("loop", "torchjd", "torch.func")
PLACE = Path(tempfile.gettempdir())


class Bench:
    """`entries` of the training split, in batches of like length, and every way to their Gram matrix."""

    def __init__(self, adapter: Adapter, mixture: Mixture, folder: Path, *, entries: int, batch: int) -> None:
        each = len(mixture.entries) / len(mixture.images)
        kept = typical(mixture, round(entries / each * 1.3), split="train")
        ids = {image.image_id for image in kept}
        small = Mixture(kept, tuple(e for e in mixture.entries if e.image_id in ids), mixture.meta)
        samples = Samples(small, "train", Images(folder, adapter, megabytes=512), adapter)
        drawn = [samples[index][0] for index in range(entries)]
        drawn.sort(key=lambda entry: len(entry["input_ids"]))
        self._features = [{k: v for k, v in entry.items() if k not in FACTS} for entry in drawn]
        self._adapter = adapter
        torch.manual_seed(0)
        config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=adapter.lora_targets)
        self.model: Any = get_peft_model(adapter.load_model(dtype=torch.float32), config).eval()
        for name, parameter in self.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.store = sum(p.numel() for p in self.weights) * entries * 4 / 2**20
        self.losses = EntryLosses("token_mean")
        self._batches = self._batched(batch)
        self._prepared: list[dict[str, torch.Tensor]] = []

    def _batched(self, size: int) -> list[dict[str, torch.Tensor]]:
        parts = [self._features[first : first + size] for first in range(0, len(self._features), size)]
        return [self._adapter.collate(part, padding_side="right") for part in parts]

    def plain(self) -> None:
        """Forward and backward, nothing else."""
        with measuring(self.model):
            for batch in self._batches:
                self.losses(self.model, batch).sum().backward()  # type: ignore[no-untyped-call]

    def gram(self) -> torch.Tensor:
        """The Gram matrix of the factor form."""
        return measure(self.model, self._batches, self.losses).pooled()

    def both(self) -> torch.Tensor:
        """The gauge-invariant Gram matrix beside it."""
        return measure(self.model, self._batches, self.losses, forms=(Factor(), Gauge())).pooled()

    def loop(self) -> torch.Tensor:
        """Batches of one; all gradients are kept."""
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(self.losses(self.model, one).sum(), self.weights)])
            for one in self._batched(1)
        ]
        whole = torch.stack(rows)
        return (whole @ whole.T).double()

    def torchjd(self, part: int) -> torch.Tensor:
        """torchjd's engine on the first `part` entries in one batch."""
        from torchjd.autogram import Engine

        engine = Engine(self.model.get_base_model().model.language_model, batch_dim=None)
        batch = self._adapter.collate(self._features[:part], padding_side="right")
        return engine.compute_gramian(self.losses(self.model, batch)).double()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--shape", default="tiny_64")
    asked = parser.parse_args()
    be_quiet()
    folder = mixture_folder("imax")
    mixture = read_mixture(folder)
    import time
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(shape(asked.shape, Path(scratch)), mixture, folder, entries=asked.entries, batch=asked.batch)
        print("store", bench.store, [b["input_ids"].shape for b in bench._batches][:3], bench._batches[-1]["input_ids"].shape)
        for name in ("plain","gram","plain","gram","both","loop"):
            t=time.perf_counter(); c=time.process_time(); r=memory("VmHWM"); getattr(bench,name)(); print(name, time.perf_counter()-t, time.process_time()-c, memory("VmHWM")-r, memory("VmHWM"), flush=True)
        t=time.perf_counter(); bench.torchjd(16); print("jd16", time.perf_counter()-t)
        t=time.perf_counter(); bench.torchjd(64); print("jd64", time.perf_counter()-t)


if __name__ == "__main__":
    main()
