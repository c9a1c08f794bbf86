"""Whether the input pipeline of TaCo keeps its encoder busy, and what the loss costs beside another.

    python -m benchmarks.taco [--runs 5] [--steps 8] [--encoder resnet18]

The pipeline: `taco_probe.taco.training.train` as it is, from a pool on disk of as many instances as the
default settings make, with its batches, views and log; against the same encoder, loss and optimizer on one
batch that lies in memory. The pool holds noise: what its pixels show costs nothing. Ratios are of medians by
the clock, the two alternating in one process.

The loss: value and gradient, and time forward and backward, against SupConLoss of pytorch-metric-learning, on
a batch of the default size and one of 1024. Needs it: pip install -e '.[benchmarks]'.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks.alternating import alternate, conclude, show
from harness import be_quiet
from taco_probe.taco.encoder import TaskEncoder
from taco_probe.taco.loss import supervised_contrastive
from taco_probe.taco.pool import COLUMNS, open_pool
from taco_probe.taco.settings import Settings
from taco_probe.taco.tasks import TASKS
from taco_probe.taco.training import train

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
DATASETS = 12  # as many as the default settings train on


def write_pool(folder: Path, settings: Settings) -> None:
    """Noise, with as many rows as a pool of these settings has."""
    rng = np.random.default_rng(0)
    kinds = [""] * settings.pool + ["blank"] * (settings.pool // 4)
    rows = [
        (
            task,
            TASKS[task].category,
            f"set {number}",
            f"set {number}",
            "noise",
            f"set {number}[{k}]",
            None,
            kind,
            "",
            0.0,
            -1,
            k,
        )
        for task in settings.tasks_used
        for number in range(DATASETS)
        for k, kind in enumerate(kinds)
    ]
    shape = (len(rows), settings.size, settings.size, 3)
    for name in ("inputs.npy", "targets.npy"):
        array = np.lib.format.open_memmap(folder / name, mode="w+", dtype=np.uint8, shape=shape)
        for start in range(0, len(rows), 1024):
            part = array[start : start + 1024]
            part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
        array.flush()
    pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(folder / "rows.parquet")


def from_disk(settings: Settings, folder: Path, run: Path) -> Callable[[], None]:
    """Trains a new run of `settings.steps` when called."""
    numbers = iter(range(1_000_000))

    def work() -> None:
        out = run / str(next(numbers))
        out.mkdir(parents=True)
        train(settings, open_pool(folder), out, save_steps=0, quiet=True)

    return work


def from_memory(settings: Settings) -> Callable[[], None]:
    """As many steps of the encoder on one batch."""
    count = settings.batch + settings.failed
    images = torch.randint(0, 256, (2, count, 3, settings.size, settings.size), dtype=torch.uint8)
    labels = torch.arange(count) % settings.tasks

    def work() -> None:
        encoder = TaskEncoder(settings).train()
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=settings.learning_rate)
        for _ in range(settings.steps):
            loss = supervised_contrastive(encoder(*images), labels, settings.temperature)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return work


def compare_losses(runs: int, rows: int) -> tuple[float, float]:
    """How many times longer the peer takes, and the largest relative difference of value or gradient."""
    from pytorch_metric_learning.losses import SupConLoss

    peer: Loss = SupConLoss(temperature=0.1)
    ways: dict[str, Loss] = {
        "ours": partial(supervised_contrastive, temperature=0.1),
        "pytorch-metric-learning": lambda vectors, labels: peer(vectors, labels),
    }
    vectors, labels = torch.randn(rows, 128), torch.arange(rows) % 12

    def work(loss: Loss, times: int = 1) -> torch.Tensor:
        """Value and gradient in one row of numbers."""
        for _ in range(times):
            leaf = vectors.clone().requires_grad_()
            value = loss(leaf, labels)
            (slope,) = torch.autograd.grad(value, leaf)
        return torch.cat([value.detach()[None], slope.flatten() / slope.abs().max()])

    found, expected = (work(loss) for loss in ways.values())
    spent = alternate({way: partial(work, loss, 20) for way, loss in ways.items()}, runs)
    print(f"\nloss of {rows} rows: {found[0]:.6f}, of pytorch-metric-learning {expected[0]:.6f}")
    show(spent, dict.fromkeys(ways, 20 * rows), "rows")
    ours, theirs = (statistics.median(one.wall) for one in spent.values())
    return theirs / ours, float((found - expected).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each way, alternating")
    parser.add_argument("--steps", type=int, default=8, help="steps of a run")
    parser.add_argument("--encoder", default="resnet18", choices=("resnet18", "resnet50"))
    asked = parser.parse_args()
    be_quiet()
    names = tuple(f"set {number}" for number in range(DATASETS))
    settings = Settings(encoder=asked.encoder, steps=asked.steps, datasets=names)
    with tempfile.TemporaryDirectory() as scratch:
        pool = Path(scratch) / "pool"
        pool.mkdir()
        write_pool(pool, settings)
        works = {
            "from disk": from_disk(settings, pool, Path(scratch) / "runs"),
            "from memory": from_memory(settings),
        }
        spent = alternate(works, asked.runs)
    instances = asked.steps * (settings.batch + settings.failed)
    show(spent, dict.fromkeys(works, instances), "instances")
    medians = {way: statistics.median(one.wall) for way, one in spent.items()}
    ratios = {"training from disk over from memory": medians["from memory"] / medians["from disk"]}
    targets = {"training from disk over from memory": ">= 0.9"}
    for rows in (settings.batch, 1024):
        name = f"loss of {rows} rows: "
        slower, off = compare_losses(asked.runs, rows)
        ratios |= {f"{name}pytorch-metric-learning over ours, time": slower, f"{name}difference": off}
        targets[f"{name}difference"] = "<= 1e-4"
    rounded = {key: float(f"{value:.3g}") for key, value in ratios.items()}
    conclude("taco", rounded, targets, n=asked.runs, steps=asked.steps, encoder=asked.encoder)


if __name__ == "__main__":
    main()
