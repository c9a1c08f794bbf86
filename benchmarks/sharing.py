"""What sharing an image's encoding among its entries saves: this trainer shared and unshared, the plain
transformers.Trainer and TRL's SFTTrainer, on the same model, the same entries and the same loss.

    python -m benchmarks.sharing [--runs 5] [--images 4] [--curve docs/sharing.png]

Two models: LLaVA's shape at 336 pixels (576 image tokens) with few and narrow layers and random weights, and
the default `tiny` (64 image tokens). A run is a few optimizer steps over the same phantom IMAX images with
all their entries; learning rate 0, so that every run does the same work and every loss can be compared. The
peers get their entries encoded beforehand. `--curve` also draws the cost of 1 to 16 entries an image.

Needs TRL: pip install -e '.[benchmarks]'.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.alternating import alternate, conclude, show
from benchmarks.shapes import SHAPES, shape, typical
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.store import read_mixture
from harness import be_quiet
from harness.dataset import FACTS, SHARINGS, Collator, Features, Images, Samples
from harness.trainer import HarnessTrainer
from model_adapters.adapter import Adapter

# Optimizer steps of a run, so many that what a run costs once hardly counts.
STEPS = {"llava_576": 4, "tiny_64": 16}
CONTENDERS = ("shared", "unshared", "transformers", "trl")
PEERS = ("transformers", "trl")


class Bench:
    """All entries of `images` neighbouring images, and the trainers that train on them."""

    def __init__(
        self, adapter: Adapter, mixture: Mixture, folder: Path, *, images: int, steps: int, work: Path
    ) -> None:
        kept = typical(mixture, images, split="train")
        ids = {image.image_id for image in kept}
        entries = tuple(entry for entry in mixture.entries if entry.image_id in ids)
        small = Mixture(kept, entries, mixture.meta)
        self.adapter, self._steps, self._work = adapter, steps, work
        cache = Images(folder, adapter, megabytes=512)
        self.samples = Samples(small, "train", cache, adapter, batching="image")
        every = [entry for index in range(len(self.samples)) for entry in self.samples[index]]
        self.entries: list[Features] = [
            {key: value for key, value in entry.items() if key not in FACTS} for entry in every
        ]

    def model(self) -> Any:
        torch.manual_seed(0)
        config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=self.adapter.lora_targets)
        return get_peft_model(self.adapter.load_model(dtype=torch.float32), config)

    def trainer(self, contender: str) -> transformers.Trainer:
        """One that takes all entries in each step."""
        common: dict[str, Any] = {
            "output_dir": str(self._work / contender),
            "max_steps": self._steps,
            "learning_rate": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": not torch.cuda.is_available(),
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
        }
        if contender in PEERS:
            common["per_device_train_batch_size"] = len(self.entries)
            collate = functools.partial(self.adapter.collate, padding_side="right")
            if contender == "transformers":
                plain = transformers.TrainingArguments(**common)
                return transformers.Trainer(
                    self.model(), plain, train_dataset=self.entries, data_collator=collate
                )
            import datasets
            from trl.trainer.sft_config import SFTConfig
            from trl.trainer.sft_trainer import SFTTrainer

            # TRL takes a `datasets.Dataset` only; this one looks the encoded entries up.
            numbers = datasets.Dataset.from_dict({"number": list(range(len(self.entries)))})
            rows = numbers.with_transform(lambda row: {"entry": [self.entries[n] for n in row["number"]]})
            settings = SFTConfig(
                **common, max_length=None, dataset_kwargs={"skip_prepare_dataset": True},
                gradient_checkpointing=False, bf16=False,
            )  # fmt: skip
            return SFTTrainer(
                self.model(), settings, train_dataset=rows, processing_class=self.adapter.processor,
                data_collator=lambda rows: collate([row["entry"] for row in rows]),
            )  # fmt: skip
        arguments = transformers.TrainingArguments(**common, per_device_train_batch_size=len(self.samples))
        sharing = "image" if contender == "shared" else "none"
        return HarnessTrainer(
            model=self.model(), args=arguments, train_dataset=self.samples, adapter=self.adapter,
            data_collator=Collator(self.adapter, sharing=sharing),
        )  # fmt: skip

    def work(self, contender: str) -> Callable[[], float]:
        """Trains once more when called; returns the loss of the first step."""
        trainer = self.trainer(contender)
        trainer.remove_callback(transformers.PrinterCallback)

        def run() -> float:
            trainer.train()
            return next(float(line["loss"]) for line in trainer.state.log_history if "loss" in line)

        return run

    def operations(self, contender: str) -> int:
        """Floating-point operations of the forward and backward pass of one step, counted by torch."""
        trainer = self.trainer(contender)
        batch = next(iter(trainer.get_train_dataloader()))
        return counted(lambda: trainer.compute_loss(trainer.model, batch).backward())


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations of `work`. The fused kernels are not counted, so attention runs in its plain
    form here."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return int(counter.get_total_flops())


def peak(shape_name: str, contender: str, images: int) -> float:
    """MB that training adds to the memory of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sharing", "--peak", shape_name, contender]
    done = subprocess.run([*command, "--images", str(images)], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure_peak(bench: Bench, contender: str) -> None:
    work = bench.work(contender)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = memory("VmRSS")
    work()
    print(memory("VmHWM") - before)


def memory(kind: str) -> float:
    """MB of this process: VmRSS, resident now; VmHWM, at most (Linux, proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def step(trainer: HarnessTrainer, batch: Mapping[str, torch.Tensor]) -> None:
    """Forward and backward; the trainer takes what is not for the model out of the batch."""
    trainer.compute_loss(trainer.model, dict(batch)).backward()


def curve(bench: Bench, target: Path, runs: int) -> dict[int, tuple[float, float]]:
    """Draws the cost of an entry against the entries of its image; returns (measured, counted) savings."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    trainer, pools = bench.trainer("shared"), (bench.samples[0], bench.samples[1])
    saved: dict[int, tuple[float, float]] = {}
    for count in (1, 2, 3, 4, 6, 8, 12, 16):
        drawn = [[pool[number % len(pool)] for number in range(count)] for pool in pools]
        works = {
            sharing: functools.partial(step, trainer, Collator(bench.adapter, sharing=sharing)(drawn))
            for sharing in SHARINGS
        }
        spent = alternate(works, runs)
        medians = {name: statistics.median(one.wall) for name, one in spent.items()}
        saved[count] = (
            medians["none"] / medians["image"],
            counted(works["none"]) / counted(works["image"]),
        )
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(list(saved), [one for one, _ in saved.values()], "o-", label="measured")
    axes.plot(list(saved), [one for _, one in saved.values()], "--", label="counted operations")
    axes.plot(list(saved), list(saved), ":", color="grey", label="entries an image")
    axes.set(xlabel="entries an image", ylabel="times cheaper than a sequence each")
    axes.set_title("Forward and backward, 576 image tokens", fontsize=10)
    axes.set_ylim(0, max(max(pair) for pair in saved.values()) * 1.15)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    return saved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each trainer, alternating")
    parser.add_argument("--images", type=int, default=4, help="images in a step")
    parser.add_argument("--curve", type=Path, help="draw the cost of 1 to 16 entries an image")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    be_quiet()
    folder = mixture_folder("imax")
    mixture = read_mixture(folder)
    ratios: dict[str, float] = {}
    facts: dict[str, Any] = {"images": asked.images}
    with tempfile.TemporaryDirectory() as scratch:
        for name in SHAPES:
            adapter = shape(name, Path(scratch) / name)
            sizes: Any = {"images": asked.images, "steps": STEPS[name], "work": Path(scratch)}
            bench = Bench(adapter, mixture, folder, **sizes)
            if asked.peak:
                if asked.peak[0] == name:
                    measure_peak(bench, asked.peak[1])
                continue
            ratios |= compare(bench, name, asked.runs, facts)
            if asked.curve and name == SHAPES[0]:
                saved = curve(bench, asked.curve, max(3, asked.runs // 2))
                facts["curve"] = {str(k): [round(x, 2) for x in pair] for k, pair in saved.items()}
    if asked.peak:
        return
    targets = {
        f"{SHAPES[0]}: shared over best peer": ">= 4",
        f"{SHAPES[0]}: shared over unshared, by counted operations": ">= 0.9",
    }
    conclude("sharing", ratios, targets, n=asked.runs, **facts)


def compare(bench: Bench, name: str, runs: int, facts: dict[str, Any]) -> dict[str, float]:
    """Times the contenders on one shape; adds to `facts` what is no ratio."""
    works = {contender: bench.work(contender) for contender in CONTENDERS}
    losses = {contender: work() for contender, work in works.items()}
    if max(losses.values()) - min(losses.values()) > 1e-4:
        raise SystemExit(f"the contenders do not have the same loss: {losses}")
    spent = alternate(works, runs)
    entries = STEPS[name] * len(bench.entries)
    print(f"\n{name}: {len(bench.entries)} entries of {len(bench.samples)} images a step, loss {losses}")
    show(spent, dict.fromkeys(CONTENDERS, entries), "entries")
    rate = {contender: 1 / statistics.median(one.wall) for contender, one in spent.items()}
    fewer = bench.operations("unshared") / bench.operations("shared")
    memory = {contender: peak(name, contender, len(bench.samples)) for contender in CONTENDERS}
    print("peak memory of training, MB: " + ", ".join(f"{key} {value:.0f}" for key, value in memory.items()))
    facts[f"{name}: peak memory, MB"] = {key: round(value) for key, value in memory.items()}
    over_unshared = rate["shared"] / rate["unshared"]
    found: Mapping[str, float] = {
        "shared over best peer": rate["shared"] / max(rate[peer] for peer in PEERS),
        "shared over unshared": over_unshared,
        "counted operations": fewer,
        "shared over unshared, by counted operations": over_unshared / fewer,
        "unshared over best peer": rate["unshared"] / max(rate[peer] for peer in PEERS),
    }
    return {f"{name}: {key}": round(value, 3) for key, value in found.items()}


if __name__ == "__main__":
    main()
