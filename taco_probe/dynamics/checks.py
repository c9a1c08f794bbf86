"""What every measurement checks: gradients of entries that add up to autograd's own, finite and not zero.

Legend: d inputs, p outputs, r rank, E entries of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics.lora import Lora

_TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 5e-3}  # by what the model computes in; else float32's
_FLOAT32 = 1e-4
_CANCELLED = 1e-6  # of the sum of norms: where entries cancel, rounding of the terms is what is left


class Sums:
    """Running sums of the gradients of each module, over entries and batches."""

    def __init__(self) -> None:
        self._sum: dict[str, torch.Tensor] = {}
        self._norms: dict[str, float] = {}  # over all entries
        self._compared: dict[str, float] = {}  # over those of compared batches

    def add(self, module: Lora, of_a: torch.Tensor, of_b: torch.Tensor, *, compared: bool) -> None:
        """Adds gradients of A^T (E, d, r) and of B (E, p, r); to what is compared only those of a batch for
        which autograd forms its own.

        Raises:
            UserError: one of them is not finite; names the module.
        """
        for part, grad in (("a", of_a), ("b", of_b)):
            key = f"{module.name}.{part}"
            norms = float(torch.linalg.vector_norm(grad, dim=(1, 2)).sum())
            if not norms < float("inf"):
                raise UserError(f"LoRA module {module.name} has gradients that are not finite")
            self._norms[key] = self._norms.get(key, 0.0) + norms
            if compared:
                total = grad.sum(0)
                self._sum[key] = self._sum[key] + total if key in self._sum else total
                self._compared[key] = self._compared.get(key, 0.0) + norms

    def check(self, modules: Sequence[Lora], computed_in: torch.dtype) -> tuple[str, ...]:
        """Compares with `.grad` of A and B.

        Returns:
            Names of the modules whose B is 0, so that the gradient of A is exactly 0, as at the start of
            training.

        Raises:
            UserError: a gradient is exactly 0 for another reason, or the sums differ; names the module.
        """
        started = []
        for module in modules:
            zero_b = not bool(module.b.weight.any())
            if zero_b:
                started.append(module.name)
            for part, layer, other in (("a", module.a, module.b), ("b", module.b, module.a)):
                key = f"{module.name}.{part}"
                if self._norms[key] == 0 and bool(other.weight.any()):
                    raise UserError(
                        f"the gradient of {part.upper()} in LoRA module {module.name} is exactly 0 for all "
                        "entries: the backward pass did not reach it (reentrant activation checkpointing "
                        "without model.enable_input_require_grads() does this), or the loss does not depend "
                        "on it (then leave it out)"
                    )
                self._compare(module.name, part, layer.weight, _TOLERANCE.get(computed_in, _FLOAT32))
            if zero_b and not bool(module.a.weight.any()):
                raise UserError(f"A and B of LoRA module {module.name} are both 0: no gradient reaches them")
        return tuple(started)

    def _compare(self, name: str, part: str, weight: torch.Tensor, tolerance: float) -> None:
        key = f"{name}.{part}"
        ours = self._sum[key].T if part == "a" else self._sum[key]
        theirs = torch.zeros_like(ours) if weight.grad is None else weight.grad.to(ours.dtype)
        off = float(torch.linalg.vector_norm(ours - theirs))
        allowed = tolerance * float(torch.linalg.vector_norm(theirs)) + _CANCELLED * self._compared[key]
        if tolerance > _FLOAT32:
            allowed += tolerance * self._compared[key] / 10
        if off > allowed:
            size = float(torch.linalg.vector_norm(theirs))
            raise UserError(
                f"the entries' gradients of {part.upper()} in LoRA module {name} do not add up to autograd's "
                f"own: they differ by {off:.3g}, and that is {size:.3g} long. Something besides plain LoRA "
                "uses this weight"
            )
