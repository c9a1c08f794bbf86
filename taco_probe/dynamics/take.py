"""Takes a measurement of a model on a probe set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import get_peft_model_state_dict

from model_adapters.adapter import Adapter
from taco_probe.dynamics import spectrum
from taco_probe.dynamics.affinity import affinity, need_two_patients, shared_look
from taco_probe.dynamics.batches import Encoded
from taco_probe.dynamics.forms import Adam, Factor, Form, Gauge, adam_moments
from taco_probe.dynamics.gram import Grams, Kernels, measure, sweeps_for
from taco_probe.dynamics.lora import find, third
from taco_probe.dynamics.losses import EntryLosses, image_rows
from taco_probe.dynamics.measurement import Measurement, Part
from taco_probe.dynamics.probe import Probe


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        fishers: of losses.FISHERS.
        affinity: try out steps along the tasks' gradients too.
        reduction: of an entry's tokens, see losses.REDUCTIONS.
        batch_tokens: of a batch, padding included; None for what suits the device.
        leave_out: regex of modules that train but are not measured, see `lora.find`.
        scratch: folder for the temporary file of gradients.
        disk: bytes that it may have; more sweeps where it would have more.
        sketch: width of random sketches in its place; approximate.
    """

    fishers: Sequence[str] = ("empirical", "true")
    affinity: bool = False
    reduction: str = "token_mean"
    batch_tokens: int | None = None
    leave_out: str | None = None
    scratch: Path | None = None
    disk: int | None = None
    sketch: int | None = None


class Probed:
    """A probe set, encoded once, and what is measured on it at any number of steps."""

    def __init__(
        self, probe: Probe, adapter: Adapter, folder: Path, plan: Plan, *, device: torch.device
    ) -> None:
        """
        Args:
            folder: of the mixture that the probe set is from.

        Raises:
            UserError: an image of the probe set cannot be opened, or there are too few patients for affinity.
        """
        self.probe, self.plan, self._adapter = probe, plan, adapter
        if plan.affinity:
            need_two_patients(probe.tasks, probe.patients)
        self._encoded = Encoded(probe.pairs, adapter, folder, device=device, tokens=plan.batch_tokens)

    def take(
        self,
        model: Any,
        *,
        step: int,
        optimizer: torch.optim.Optimizer | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Measurement:
        """Measures the model as it is now, and leaves it as it was.

        Args:
            optimizer: Adam's second moments, where it has any, give one more form and the direction of
                affinity's steps.
            facts: more for the record, such as what the run is.

        Raises:
            UserError: see `gram.measure` and `affinity`.
        """
        moments = adam_moments(optimizer) if optimizer is not None else {}
        forms: list[Form] = [Gauge(), Factor()]
        if moments:
            forms.append(Adam(moments))
        begun = time.perf_counter()
        grams = {fisher: self._grams(model, fisher, forms) for fisher in self.plan.fishers}
        measured = time.perf_counter()
        one = grams[self.plan.fishers[0]]
        found: dict[str, Any] = {
            "step": step,
            **(facts or {}),
            "probe": {
                "digest": self.probe.digest,
                "split": self.probe.split,
                "seed": self.probe.seed,
                "per_task": self.probe.counts(),
            },
            "reduction": self.plan.reduction,
            "exact": one.exact,
            "cosine_error": {  # standard error of a cosine; 0 where exact
                fisher: {form.name: found.error(form.name) for form in forms}
                for fisher, found in grams.items()
            },
            "left_out": list(one.left_out),
            "b_is_zero": len(one.b_is_zero),
            "lora_scale": {
                module.name: module.scale for module in find(model, leave_out=self.plan.leave_out).modules
            },
            "entries": [entry.entry_id for _, entry in self.probe.pairs],
            "tasks": self.probe.tasks,
            "patients": self.probe.patients,
            "losses": {fisher: found.losses.tolist() for fisher, found in grams.items()},
            "seconds": {"grams": round(measured - begun, 2)},
        }
        if self.plan.affinity:
            found["affinity"] = self._affinity(model, moments)
            found["seconds"]["affinity"] = round(time.perf_counter() - measured, 2)
        kernels = {
            part: gram for fisher, all_ in grams.items() for part, gram in by_third(all_, fisher).items()
        }
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        lora = {key: value.detach().float().cpu().numpy() for key, value in state.items()}
        return Measurement(found, kernels, lora)

    def _grams(self, model: Any, fisher: str, forms: Sequence[Form]) -> Grams:
        parts = self._encoded.for_gradients()
        losses = EntryLosses(self.plan.reduction, fisher=fisher, seed=self.probe.seed)
        rows = image_rows(self._adapter.image_id)
        batches = [
            (
                self._encoded.shared_batch([part.numbers], model)
                if part.shared
                else self._encoded.batch(part.numbers)
            )
            | {"number": torch.tensor(part.numbers)}  # drawn targets do not depend on the batches
            for part in parts
        ]
        sweeps = 1
        if self.plan.disk is not None and self.plan.sketch is None:
            sweeps = sweeps_for(model, len(self._encoded), self.plan.disk, leave_out=self.plan.leave_out)
        found = measure(
            model,
            batches,
            losses,
            forms=forms,
            leave_out=self.plan.leave_out,
            image_rows=rows,
            folder=self.plan.scratch,
            sweeps=sweeps,
            sketch=self.plan.sketch,
        )
        order = torch.tensor([number for part in parts for number in part.numbers]).argsort()

        def sorted_(kernels: Kernels) -> Kernels:
            return {key: spectrum.part(kernel, order) for key, kernel in kernels.items()}

        return replace(
            found,
            kernels=sorted_(found.kernels),
            losses=found.losses[order],
            sketches=tuple(sorted_(one) for one in found.sketches),
        )

    def _affinity(self, model: Any, moments: Mapping[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
        losses = EntryLosses(self.plan.reduction)
        look = shared_look(model, self._encoded, losses)
        tried = affinity(
            model, self._encoded, losses, self.probe.tasks, self.probe.patients, look=look, moments=moments
        )
        return {"direction": "adam" if moments else "gradient", **tried._asdict()}


def by_third(grams: Grams, fisher: str) -> dict[Part, Any]:
    """Gram matrices summed over the layers of each third of the language model, by kind of module."""
    layers = 1 + max((g.layer for _, g in grams.kernels if isinstance(g.layer, int)), default=0)
    found: dict[Part, Any] = {}
    for (form, group), kernel in grams.kernels.items():
        part = Part(fisher, form, third(group.layer, layers) or "outside", group.kind)
        found[part] = kernel.numpy() + found.get(part, np.zeros(1))
    return found
