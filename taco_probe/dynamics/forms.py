"""In which coordinates gradients are compared: as they are, free of gauge, or preconditioned.

Every form is linear in a module's gradient, so it is applied to the gradients of all entries, a slice of rows
at a time, before their inner products are taken.

Legend: d inputs, p outputs, r rank, s scale, E entries, R rows of a slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics.lora import Lora

Moments = Mapping[torch.Tensor, torch.Tensor]


class Bound(Protocol):
    """A form for one module."""

    def of_a(self, grad: torch.Tensor, rows: slice) -> torch.Tensor:
        """Gradients of rows of A^T, (E, R, r), in this form."""
        ...

    def of_b(self, grad: torch.Tensor, rows: slice, corner: torch.Tensor) -> torch.Tensor:
        """Gradients of rows of B, (E, R, r), in this form. `corner` is gradA A^T = B^T gradB, (E, r, r)."""
        ...


class Form(Protocol):
    """How the gradients of entries are compared; `name` labels the result."""

    name: str

    def bind(self, module: Lora) -> Bound:
        """The form for a module, with its weights as they are now."""
        ...


class Factor:
    """<gradA_i, gradA_j> + <gradB_i, gradB_j>: the gradient of the parameters as they are. Depends on how the
    update is split into A and B."""

    name = "factor"

    def bind(self, module: Lora) -> Bound:
        """The gradients themselves."""
        return _AsIs()


class Gauge:
    """The gradient of the full weight, projected on the tangent space of the rank-r matrices at B A. It does
    not change when (A, B) becomes (R A, B R^-1).

    With C_B = B^T B, C_A = A A^T and L = gradA A^T, as a sum of two orthogonal parts:
    s^-2 [ <C_B^-1/2 gradA_i, C_B^-1/2 gradA_j> + <(gradB_i - B C_B^+ L_i) C_A^-1/2, (same of j)> ]
    which is the expression in docs/dynamics.md without its difference. Inverses are pseudo-inverses: at B = 0
    the first part is 0 and the second is that of gradB.
    """

    name = "gauge"

    def bind(self, module: Lora) -> Bound:
        """The projection at this module's A and B."""
        return _Tangent(module)


class Adam:
    """Gradients preconditioned with Adam's second moments, P = diag(sqrt(v) + eps): P^-1/2 g ("adam"), whose
    Gram matrix is g_i^T P^-1 g_j, how far a step along one entry lowers the loss of another; or P^-1 g
    ("adam_update"), the direction of the update itself.

    Args:
        moments: v, bias corrected, for every A and B (see `adam_moments`).
        update: P^-1 g instead of P^-1/2 g.
        eps: of the optimizer.
    """

    def __init__(self, moments: Moments, *, update: bool = False, eps: float = 1e-8) -> None:
        self.name = "adam_update" if update else "adam"
        self._moments, self._power, self._eps = moments, -1.0 if update else -0.5, eps

    def bind(self, module: Lora) -> Bound:
        """Raises: UserError: a weight of the module has no second moment."""
        scales = []
        for weight in (module.a.weight, module.b.weight):
            if weight not in self._moments:
                raise UserError(f"the optimizer holds no second moment for LoRA module {module.name}")
            moment = self._moments[weight].detach()
            scales.append((moment.to(_wide(moment)).sqrt() + self._eps).pow(self._power))
        return _Scaled(scales[0].T, scales[1])


def adam_moments(optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, torch.Tensor]:
    """Bias-corrected second moments v / (1 - beta2^t) of Adam or AdamW, by parameter; none before a step."""
    moments = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if "exp_avg_sq" in state:
                correction = 1 - group["betas"][1] ** float(state["step"])
                moments[parameter] = state["exp_avg_sq"] / correction
    return moments


class _AsIs:
    def of_a(self, grad: torch.Tensor, rows: slice) -> torch.Tensor:
        return grad

    def of_b(self, grad: torch.Tensor, rows: slice, corner: torch.Tensor) -> torch.Tensor:
        return grad


class _Scaled:
    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self._a, self._b = a, b

    def of_a(self, grad: torch.Tensor, rows: slice) -> torch.Tensor:
        return grad * self._a[rows]

    def of_b(self, grad: torch.Tensor, rows: slice, corner: torch.Tensor) -> torch.Tensor:
        return grad * self._b[rows]


class _Tangent:
    def __init__(self, module: Lora) -> None:
        a, b = module.a.weight.detach(), module.b.weight.detach()
        root_a, root_b = inverse_root(a.T), inverse_root(b)
        self._root_a = (root_a / module.scale).to(_wide(a))
        self._root_b = (root_b / module.scale).to(_wide(b))
        self._onto = (b.double() @ root_b @ root_b).to(_wide(b))  # B C_B^+

    def of_a(self, grad: torch.Tensor, rows: slice) -> torch.Tensor:
        return grad @ self._root_b

    def of_b(self, grad: torch.Tensor, rows: slice, corner: torch.Tensor) -> torch.Tensor:
        outside: torch.Tensor = grad - self._onto[rows] @ corner
        return outside @ self._root_a


def inverse_root(columns: torch.Tensor) -> torch.Tensor:
    """(M^T M)^-1/2 of M (m, r) as (r, r) in float64, a pseudo-inverse: directions that the stored precision
    cannot tell from 0 are left out."""
    _, values, axes = torch.linalg.svd(columns.double(), full_matrices=False)
    precision = torch.finfo(columns.dtype).eps
    kept = values > max(columns.shape) * precision * values.max()
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    root: torch.Tensor = axes.T @ (inverse[:, None] * axes)
    return root


def _wide(value: torch.Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)
