"""The n x n Gram matrix of per-entry LoRA gradients, K_ij = <g_i, g_j>, in one forward and backward pass.

Hooks form each entry's gradient of a module inside the backward pass (see `hooks`). With one batch a module
is compared and freed at once. With several, its gradients wait in a temporary file (see `store`), so memory
holds one module's at most; or the model is swept several times, a part of its modules at a time, which needs
a part of the disk; or they are sketched, which needs neither and is approximate.

Legend: n entries, B of a batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_recipes.errors import UserError
from taco_probe.dynamics.checks import Sums
from taco_probe.dynamics.forms import Factor, Form
from taco_probe.dynamics.hooks import Pass, measuring, narrower, tapped
from taco_probe.dynamics.lora import Group, Lora, find
from taco_probe.dynamics.losses import entries_of
from taco_probe.dynamics.sinks import CountSketch, Exact, reduce_module
from taco_probe.dynamics.store import Slice, Spill, in_slices

Batch = Mapping[str, torch.Tensor]
# Model and batch to the loss of each entry (E,), with its graph.
Losses = Callable[[Any, Batch], torch.Tensor]
Kernels = dict[tuple[str, Group], torch.Tensor]


@dataclass(frozen=True)
class Grams:
    """Gram matrices of the gradients of n entries.

    Attributes:
        kernels: (n, n) float64 by form and group; see `pooled`.
        losses: of each entry (n,).
        left_out: trainable parameters that were not measured.
        b_is_zero: modules with B = 0, as at the start of training: there the gradient of A is exactly 0, and
            all of the spectrum is that of B's.
        sketches: empty if exact; else the two independent estimates whose mean `kernels` is.
    """

    kernels: Kernels
    losses: torch.Tensor
    left_out: tuple[str, ...] = ()
    b_is_zero: tuple[str, ...] = ()
    sketches: tuple[Kernels, ...] = field(default=(), repr=False)

    @property
    def exact(self) -> bool:
        """Whether the matrices are exact up to rounding; else they are random estimates."""
        return not self.sketches

    def pooled(
        self, form: str = "factor", where: Callable[[Group], bool] = lambda group: True
    ) -> torch.Tensor:
        """K (n, n) over all groups for which `where` holds: gradients of disjoint modules add up.

        Raises:
            UserError: no group of this form is left.
        """
        return _pooled(self.kernels, form, where)

    def error(self, form: str = "factor", where: Callable[[Group], bool] = lambda group: True) -> float:
        """Standard error of a cosine K_ij / sqrt(K_ii K_jj), i != j, from the difference of the two sketches;
        0 if exact."""
        if self.exact:
            return 0.0
        first, second = (_pooled(kernels, form, where) for kernels in self.sketches)
        length = self.pooled(form, where).diagonal().sqrt()
        away = (first - second) / 2 / length.outer(length)
        n = len(length)
        return math.sqrt(float(away.square().sum() - away.diagonal().square().sum()) / max(1, n * (n - 1)))


def measure(
    model: nn.Module,
    batches: Sequence[Batch],
    losses: Losses,
    *,
    forms: Sequence[Form] = (Factor(),),
    groups: Mapping[str, Group] | None = None,
    leave_out: str | None = None,
    image_rows: Callable[[Batch], torch.Tensor] | None = None,
    folder: Path | None = None,
    sweeps: int = 1,
    sketch: int | None = None,
    seed: int = 0,
) -> Grams:
    """Gram matrices of the gradients of each entry's loss by the weights of LoRA.

    The model is measured without dropout and left as it was; activation checkpointing stays as it is set.
    Hooks are counted in every batch; sums are compared with autograd's own gradients in the first and the
    last.

    Args:
        batches: entries in the order of the rows of K; gone through once a sweep. Those that share sequences
            (`batches.Encoded.shared_batch`) cost a forward pass a sequence and a backward pass an entry.
        losses: as `losses.EntryLosses`. The batch it gets also has `number` (E,), by which targets are
            drawn: the row of each entry in K, unless the batch has its own.
        forms: see `forms`.
        groups: group of each module by name, by default its layer and kind; `lora.by_third` makes fewer.
        leave_out: see `lora.find`.
        image_rows: tokens of each entry's image (B,), for adapters of the projector that see the tokens of
            all images in one line.
        folder: for the temporary file of n r (d + p) floats over all modules; only with several batches.
        sweeps: forward and backward passes, each for a part of the modules: the file is as much smaller.
        sketch: instead of exact products, two random sketches of this width; no file. For n in the thousands.
        seed: of the sketches.

    Raises:
        UserError: a module cannot be measured (see `lora.find`), got no gradient, has a zero or infinite
            gradient, or its per-entry gradients do not add up to autograd's own. The message names it.
    """
    found = find(model, leave_out=leave_out)
    if not len(batches):
        raise UserError("there is no entry to measure")
    if sketch is not None and sketch < 2:
        raise UserError(f"a sketch of width {sketch} holds nothing: give hundreds or more")
    sinks: list[Any] = [Exact()] if sketch is None else [CountSketch(sketch, 2 * seed + k) for k in (0, 1)]
    seen: list[torch.Tensor] = []
    started: list[str] = []
    with measuring(model):
        for part in _parts(found.modules, sweeps):
            model.requires_grad_(False)  # the backward pass ends at the first hook
            seen = []
            with contextlib.ExitStack() as stack:
                wait = sketch is None and (len(batches) > 1 or _shared(batches[0]))
                spill = stack.enter_context(Spill(folder)) if wait else None
                sweep = _Sweep(part, forms, groups or {}, sinks, spill)
                stack.enter_context(tapped(part, sweep))
                for index, batch in enumerate(batches):
                    sweep.compares(index in (0, len(batches) - 1))
                    numbers = torch.arange(entries_of(batch)) + sum(map(len, seen))
                    seen.append(sweep.run(model, {"number": numbers, **batch}, losses, image_rows))
                started += sweep.sums.check(part, narrower(sweep.narrowest, _precision(model)))
                sweep.compare_stored()
    kernels = [sink.kernels() for sink in sinks]
    mean = {key: sum(one[key] for one in kernels) / len(kernels) for key in kernels[0]}
    return Grams(mean, torch.cat(seen), found.left_out, tuple(started), tuple(kernels) if sketch else ())


def sweeps_for(model: nn.Module, entries: int, disk: int, *, leave_out: str | None = None) -> int:
    """Sweeps after which the temporary file of `measure` never has more than `disk` bytes."""
    modules = find(model, leave_out=leave_out).modules
    stored = sum(one.size for one in modules) * entries * 4
    return max(1, min(len(modules), math.ceil(stored / max(disk, 1))))


class _Sweep:
    """One pass over the batches, for some of the modules."""

    current: Pass
    narrowest = torch.float64

    def __init__(
        self,
        modules: Sequence[Lora],
        forms: Sequence[Form],
        groups: Mapping[str, Group],
        sinks: Sequence[Any],
        spill: Spill | None,
    ) -> None:
        self._modules, self._sinks, self._spill = modules, sinks, spill
        self._groups = {one.name: groups.get(one.name, one.group) for one in modules}
        self._bound = {one.name: [(form.name, form.bind(one)) for form in forms] for one in modules}
        self.sums = Sums()

    def compares(self, compared: bool) -> None:
        """Whether autograd forms its own gradients of the weights in the next batch, to compare with; that
        costs as much as the gradients of the entries."""
        self._compared = compared
        for module in self._modules:
            for layer in (module.a, module.b):
                layer.weight.requires_grad_(compared)

    def run(
        self,
        model: nn.Module,
        batch: Batch,
        losses: Losses,
        image_rows: Callable[[Batch], torch.Tensor] | None,
    ) -> torch.Tensor:
        """Forward and backward of one batch; returns the losses (E,).

        Entries that share a sequence have a backward pass each: then all gradients that a hook sees, those of
        the shared tokens too, are this entry's.
        """
        entries, rows = entries_of(batch), len(batch["input_ids"])
        with torch.enable_grad():
            each = losses(model, batch)
            if each.shape != (entries,):
                raise UserError(f"losses gave shape {tuple(each.shape)} for {entries} entries: give one each")
            if not each.requires_grad:
                raise UserError(
                    f"no loss depends on LoRA module {self._modules[-1].name}: with reentrant activation "
                    "checkpointing, call model.enable_input_require_grads() first"
                )
            turns = [each.sum()] if entries == rows else list(each)
            for number, loss in enumerate(turns, start=1):
                image = image_rows(batch) if image_rows and entries == rows else None
                self.current = Pass(entries // len(turns), image, self._take)
                loss.backward(retain_graph=number < len(turns))
                self.current.check_fired(self._modules)
                self.narrowest = narrower(self.narrowest, self.current.narrowest)
                for sink in self._sinks:
                    if isinstance(sink, CountSketch):
                        sink.close_batch()
        return each.detach().double().cpu()

    def compare_stored(self) -> None:
        """Reads the gradients of all batches back, module by module."""
        if self._spill is None:
            return
        for module in self._modules:
            parts = (self._spill.slices(f"{module.name}.{part}") for part in "ab")
            self._reduce(module, *parts)

    def _take(self, module: Lora, of_a: torch.Tensor, of_b: torch.Tensor) -> None:
        self.sums.add(module, of_a, of_b, compared=self._compared)
        if self._spill is not None:
            for part, grad in (("a", of_a), ("b", of_b)):
                self._spill.append(f"{module.name}.{part}", grad)
        elif isinstance(self._sinks[0], Exact):
            self._reduce(module, in_slices(of_a), in_slices(of_b))
        else:
            self._reduce(module, [(slice(0, of_a.shape[1]), of_a)], [(slice(0, of_b.shape[1]), of_b)])

    def _reduce(self, module: Lora, of_a: Iterable[Slice], of_b: Iterable[Slice]) -> None:
        def sink(*args: Any) -> None:
            for one in self._sinks:
                one(*args)

        with torch.no_grad():
            reduce_module(module, self._groups[module.name], self._bound[module.name], of_a, of_b, sink)


def _shared(batch: Batch) -> bool:
    return entries_of(batch) > len(batch["input_ids"])


def _parts(modules: Sequence[Lora], sweeps: int) -> list[Sequence[Lora]]:
    """Neighbouring modules, in parts of about equal size; the last first, as the backward pass goes."""
    total, done = sum(one.size for one in modules), 0
    parts: dict[int, list[Lora]] = {}
    for module in modules:
        parts.setdefault(min(sweeps - 1, done * sweeps // total), []).append(module)
        done += module.size
    return [parts[number] for number in sorted(parts, reverse=True)]


def _precision(model: nn.Module) -> torch.dtype:
    """That of the model's weights."""
    return narrower(*(p.dtype for p in model.parameters() if p.is_floating_point()))


def _pooled(kernels: Kernels, form: str, where: Callable[[Group], bool]) -> torch.Tensor:
    chosen = [kernel for (name, group), kernel in kernels.items() if name == form and where(group)]
    if not chosen:
        known = ", ".join(sorted({name for name, _ in kernels}))
        raise UserError(f"no group of form {form!r} was measured; forms: {known}")
    return torch.stack(chosen).sum(0) if len(chosen) == 1 else sum(chosen[1:], start=chosen[0])
