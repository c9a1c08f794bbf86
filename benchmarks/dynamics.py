"""What the Gram matrix of 256 entries' LoRA gradients costs: beside a plain pass, and against peers.

    python -m benchmarks.dynamics [--runs 5] [--entries 256] [--shapes tiny_64 llava_576]

Two models: the default `tiny` (64 image tokens), and LLaVA's shape at 336 pixels (576 image tokens) with few
and narrow layers and random weights. The entries are a probe set as `--dynamics_steps` takes it, and each way
gets them in the batches that suit it. The peers are a loop over batches of one that keeps every gradient,
torchjd's Gramian engine, and per-sample gradients by torch.func. The last two are measured on `--part` of the
entries and counted at the same time an entry, which favours them: products of pairs grow with the square.
torch.func cannot trace how the model makes its inputs and masks, so these are made before it, within its
time.

Memory is the peak of a process of its own over that of the plain pass, against the n gradients, n r (d + p)
floats. Times are of the processor, so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model

from benchmarks.alternating import Spent, alternate, conclude, show
from benchmarks.shapes import SHAPES, shape
from benchmarks.sharing import memory
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.store import read_mixture
from harness import be_quiet
from model_adapters.adapter import Adapter
from model_adapters.base import IGNORE
from taco_probe.dynamics.batches import Encoded
from taco_probe.dynamics.forms import Factor, Gauge
from taco_probe.dynamics.gram import measure
from taco_probe.dynamics.hooks import measuring
from taco_probe.dynamics.losses import EntryLosses
from taco_probe.dynamics.probe import choose

PEERS = ("loop", "torchjd", "torch_func")
TOKENS = {"tiny_64": 2048, "llava_576": 1}  # of a batch, where the plain pass is fastest; 1: an entry each
Batch = dict[str, torch.Tensor]


class _ReachedError(Exception):
    """The language model was about to start, with these inputs: the vision tower's work is done."""


class Bench:
    """A probe set as `--dynamics_steps` would take it, and every way to its Gram matrix."""

    def __init__(
        self, adapter: Adapter, mixture: Mixture, folder: Path, *, entries: int, tokens: int, part: int
    ) -> None:
        pairs = choose(mixture, entries, split="validation").pairs
        self._encoded = Encoded(pairs, adapter, folder, device=torch.device("cpu"), tokens=tokens)
        torch.manual_seed(0)
        config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=adapter.lora_targets)
        self._model: Any = get_peft_model(adapter.load_model(dtype=torch.float32), config).eval()
        for name, parameter in self._model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        self._weights = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self.store = sum(p.numel() for p in self._weights.values()) * entries * 4 / 2**20
        self._losses = EntryLosses("token_mean")
        self._batches = [self._encoded.batch(numbers) for numbers in self._encoded.parts()]
        self._ones = [self._encoded.batch([number]) for number in range(entries)]
        self._cheapest = [  # as `take` does it
            self._encoded.shared_batch([numbers], self._model) if shared else self._encoded.batch(numbers)
            for numbers, shared in self._encoded.for_gradients()
        ]
        by_length = [number for numbers in self._encoded.parts() for number in numbers]
        step = entries // part
        self._part = by_length[step // 2 :: step][:part]

    def plain(self) -> None:
        """Forward and backward, nothing else."""
        with measuring(self._model):
            for batch in self._batches:
                self._losses(self._model, batch).sum().backward()  # type: ignore[no-untyped-call]

    def gram(self) -> torch.Tensor:
        """The Gram matrix of the factor form."""
        return measure(self._model, self._cheapest, self._losses).pooled()

    def gauge(self) -> torch.Tensor:
        """The gauge-invariant one beside it."""
        return measure(self._model, self._cheapest, self._losses, forms=(Factor(), Gauge())).pooled()

    def loop(self) -> torch.Tensor:
        """Batches of one; all gradients are kept."""
        return self._loop(self._ones)

    def _loop(self, ones: list[Batch]) -> torch.Tensor:
        weights = list(self._weights.values())
        rows = []
        for one in ones:
            grads = torch.autograd.grad(self._losses(self._model, one).sum(), weights)
            rows.append(torch.cat([grad.flatten() for grad in grads]))
        whole = torch.stack(rows)
        return whole @ whole.T

    def torchjd(self) -> torch.Tensor:
        """torchjd's engine on the part, in the one batch that it takes."""
        from torchjd.autogram import Engine

        engine = Engine(self._model.get_base_model().model.language_model, batch_dim=None)
        batch = self._encoded.batch(self._part)
        gramian: torch.Tensor = engine.compute_gramian(self._losses(self._model, batch))
        return gramian

    def torch_func(self) -> torch.Tensor:
        """torch.func's per-sample gradients of the part, eight samples at a time."""
        base = self._model.get_base_model()

        def loss(
            weights: Batch, embedded: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
        ) -> torch.Tensor:
            hidden = torch.func.functional_call(
                base.model.language_model,
                weights,
                kwargs={"inputs_embeds": embedded[None], "attention_mask": mask[None], "use_cache": False},
            ).last_hidden_state
            scores = base.lm_head(hidden[0, :-1])
            return F.cross_entropy(scores, labels[1:], ignore_index=IGNORE)

        prefix = "base_model.model.model.language_model."
        weights = {name.removeprefix(prefix): weight.detach() for name, weight in self._weights.items()}
        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0), chunk_size=8)
        grads = each(weights, *self._prepare())
        whole = torch.cat([grad.flatten(1) for grad in grads.values()], dim=1)
        return whole @ whole.T

    def agree(self) -> dict[str, float]:
        """How far each peer's matrix of the part is off ours, by our largest entry."""
        ones = [self._ones[number] for number in self._part]
        ours = measure(self._model, ones, self._losses).pooled()
        found = {"loop": self._loop(ones), "torchjd": self.torchjd(), "torch_func": self.torch_func()}
        return {
            peer: float((one.double() - ours).abs().max() / ours.abs().max()) for peer, one in found.items()
        }

    @torch.no_grad()
    def _prepare(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embedded inputs (B, L, D), causal masks (B, 1, L, L) and labels (B, L) of the part."""
        batch = self._encoded.batch(self._part)
        inner = self._model.get_base_model().model

        def keep(_: object, args: object, kwargs: dict[str, Any]) -> None:
            raise _ReachedError(kwargs["inputs_embeds"])

        handle = inner.language_model.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            inner(**{key: value for key, value in batch.items() if key != "labels"})
        except _ReachedError as reached:
            embedded: torch.Tensor = reached.args[0]
        finally:
            handle.remove()
        length = batch["input_ids"].shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        mask = (causal[None] & batch["attention_mask"].bool()[:, None, :])[:, None]
        return embedded, mask, batch["labels"]


def compare(bench: Bench, name: str, asked: argparse.Namespace, facts: dict[str, Any]) -> dict[str, float]:
    """Times and memory on one shape; adds to `facts` what is no ratio."""
    off = bench.agree()
    if max(off.values()) > 1e-3:
        raise SystemExit(f"the ways do not agree on {name}: {off}")
    kinds = ("plain", "gram", "gauge", *PEERS)
    spent: dict[str, Spent] = alternate({kind: getattr(bench, kind) for kind in kinds}, asked.runs)
    handled = {kind: asked.part if kind in ("torchjd", "torch_func") else asked.entries for kind in kinds}
    print(f"\n{name}: {asked.entries} entries, differences from ours {off}")
    show(spent, handled, "entries")
    an_entry = {kind: statistics.median(one.cpu) / handled[kind] for kind, one in spent.items()}
    found = {f"{name}: gram over plain pass": an_entry["gram"] / an_entry["plain"]}
    found[f"{name}: both forms over plain pass"] = an_entry["gauge"] / an_entry["plain"]
    found |= {f"{name}: {peer} over gram": an_entry[peer] / an_entry["gram"] for peer in PEERS}
    peaks = {kind: peak(name, kind, asked) for kind in ("plain", "gram", "gauge")}
    print(f"peak memory, MB: {peaks}; the gradients of all entries: {bench.store:.0f}")
    facts[f"{name}: peak memory, MB"] = {key: round(value) for key, value in peaks.items()}
    facts[f"{name}: all gradients, MB"] = round(bench.store)
    found[f"{name}: memory above plain pass over all gradients"] = (
        max(0.0, peaks["gram"] - peaks["plain"]) / bench.store
    )
    return {key: round(value, 3) for key, value in found.items()}


def peak(name: str, kind: str, asked: argparse.Namespace) -> float:
    """Peak MB of one pass in a process of its own; median of three, since allocators differ by some MB."""
    command = [sys.executable, "-m", "benchmarks.dynamics", "--peak", name, kind]
    command += ["--entries", str(asked.entries), "--part", str(asked.part)]
    done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    return statistics.median(float(one.stdout.splitlines()[-1]) for one in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each way, alternating")
    parser.add_argument("--entries", type=int, default=256)
    parser.add_argument("--part", type=int, default=16, help="entries that torchjd and torch.func get")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    be_quiet()
    folder = mixture_folder("imax")
    mixture = read_mixture(folder)
    ratios: dict[str, float] = {}
    facts: dict[str, Any] = {"entries": asked.entries, "part": asked.part}
    shapes = asked.shapes if asked.peak is None else asked.peak[:1]
    with tempfile.TemporaryDirectory() as scratch:
        for name in shapes:
            adapter = shape(name, Path(scratch) / name)
            bench = Bench(
                adapter, mixture, folder, entries=asked.entries, tokens=TOKENS[name], part=asked.part
            )
            if asked.peak:
                Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
                getattr(bench, asked.peak[1])()
                print(memory("VmHWM"))
                return
            ratios |= compare(bench, name, asked, facts)
    targets = {}
    for name in asked.shapes:
        targets[f"{name}: gram over plain pass"] = "<= 1.3"
        targets |= {f"{name}: {peer} over gram": "> 1" for peer in PEERS}
        targets[f"{name}: memory above plain pass over all gradients"] = "<= 0.1"
    conclude("dynamics", ratios, targets, n=asked.runs, **facts)


if __name__ == "__main__":
    main()
