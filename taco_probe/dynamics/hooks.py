"""Hooks on the two linear layers of LoRA modules that give each entry's gradient inside the backward pass.

A linear layer z = W x has the gradient sum_t dz_t x_t^T. For A that is U_i^T X_i with U_i = s G_i B, for B it
is s G_i^T Z_i with Z_i = X_i A^T (G_i the gradient of entry i's loss by the module's output): both are what
PEFT's own linear layers see, so nothing here knows LoRA's formula. Inputs are kept by autograd itself
(`save_for_backward`), so that activation checkpointing, which recomputes them, neither loses nor doubles
them.

Legend: B entries of a batch, T tokens, d inputs, p outputs, r rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from data_recipes.errors import UserError
from taco_probe.dynamics.lora import Lora

# Called inside the backward pass, module by module: gradients of A^T (B, d, r) and of B (B, p, r).
Take = Callable[[Lora, torch.Tensor, torch.Tensor], None]


class Pass:
    """One batch's forward and backward: which modules fired, and how rows are split by entry.

    Args:
        entries: B.
        image_rows: for modules whose rows are image tokens of all entries in one line, how many each entry
            has (B,).
    """

    def __init__(self, entries: int, image_rows: torch.Tensor | None, take: Take) -> None:
        self._entries, self._take = entries, take
        self._image_rows = None if image_rows is None else image_rows.tolist()
        self._of_b: dict[str, torch.Tensor] = {}  # waits for the gradient of A, which comes next
        self.fired: dict[str, int] = {}
        self.narrowest = torch.float64  # type that hooks saw: autocast inside the model shows only there

    def saw(self, module: Lora, part: str, x: torch.Tensor, dz: torch.Tensor) -> None:
        """Takes what one linear layer saw: its input (..., in) and the gradient of its output (..., out)."""
        key = f"{module.name}.{part}"
        self.fired[key] = self.fired.get(key, 0) + 1
        if self.fired[key] > 1:
            raise UserError(
                f"LoRA module {module.name} ran more than once in one pass, so no single call has the whole "
                "gradient of an entry; leave it out"
            )
        self.narrowest = narrower(self.narrowest, x.dtype, dz.dtype)
        wide = torch.promote_types(torch.promote_types(x.dtype, dz.dtype), torch.float32)
        rows, grads = (self._by_entry(one.detach().to(wide), module.name) for one in (x, dz))
        if part == "b":
            self._of_b[module.name] = per_entry(grads, rows)
        else:
            self._take(module, per_entry(rows, grads), self._of_b.pop(module.name))

    def _by_entry(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        """Rows of one entry each: (B, T, features).

        Raises:
            UserError: the rows cannot be told apart by entry.
        """
        if rows.ndim == 3 and len(rows) == self._entries:
            return rows
        if self._entries == 1:
            return rows.flatten(0, -2)[None]
        # Two dimensions only: tiles of images (tiles, T, d) may have as many rows and another order.
        if rows.ndim == 2 and self._image_rows is not None and len(rows) == sum(self._image_rows):
            return nn.utils.rnn.pad_sequence(list(torch.split(rows, self._image_rows)), batch_first=True)
        raise UserError(
            f"LoRA module {name} sees rows of shape {tuple(rows.shape)} for {self._entries} entries, so "
            "it is unknown which row is whose; leave it out, or measure one entry a batch"
        )

    def check_fired(self, modules: Sequence[Lora]) -> None:
        """Raises: UserError: a hook did not fire in the backward pass; names the module."""
        silent = [one.name for one in modules if self.fired.get(f"{one.name}.a", 0) != 1]
        if silent:
            raise UserError(
                f"{len(silent)} of {len(modules)} LoRA modules got no gradient in the backward pass, first "
                f"{silent[0]}: is it part of the forward pass, and if activation checkpointing is reentrant, "
                "do its inputs require gradients (model.enable_input_require_grads())?"
            )


def narrower(*dtypes: torch.dtype) -> torch.dtype:
    """The one with the fewest digits."""
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def per_entry(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum over tokens of left (B, T, m) times right (B, T, r): (B, m, r)."""
    # r is small: this order of the product is up to twice as fast on CPUs.
    return torch.bmm(right.transpose(1, 2), left).transpose(1, 2)


class Sweep(Protocol):
    """What the hooks of a sweep report to: the pass that is under way."""

    current: Pass


class _Tap(torch.autograd.Function):
    """Passes a linear layer's output on, and in the backward pass shows its gradient beside the input. The
    anchor makes the output require a gradient even where neither input nor weight does."""

    @staticmethod
    def forward(
        ctx: Any, output: torch.Tensor, x: torch.Tensor, anchor: torch.Tensor, saw: Callable[..., None]
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.saw = saw
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        ctx.saw(x, grads[0])
        return grads[0], None, None, None


@contextlib.contextmanager
def tapped(modules: Sequence[Lora], sweep: Sweep) -> Iterator[None]:
    """Hooks on A and B of these modules, removed at the end."""
    handles = []
    anchor = torch.zeros((), requires_grad=True)

    def tap(module: Lora, part: str) -> Callable[..., torch.Tensor]:
        def saw(x: torch.Tensor, dz: torch.Tensor) -> None:
            sweep.current.saw(module, part, x, dz)

        def hook(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return _Tap.apply(output, args[0], anchor, saw)  # type: ignore[no-any-return]

        return hook

    for module in modules:
        handles += [
            module.a.register_forward_hook(tap(module, "a")),
            module.b.register_forward_hook(tap(module, "b")),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """The model without dropout but, where it is switched on, with activation checkpointing; afterwards every
    mode, `requires_grad` and gradient is as it was.

    transformers checkpoints a layer only while that layer is in training mode: it alone is put there, not
    what is inside it.

    Raises:
        UserError: a layer that checkpoints has a dropout of its own, which would then be on.
    """
    modes = [(module, module.training) for module in model.modules()]
    state = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    model.eval()
    try:
        for name, module in model.named_modules():
            if getattr(module, "gradient_checkpointing", False) and hasattr(
                module, "_gradient_checkpointing_func"
            ):
                _refuse_own_dropout(name, module)
                module.training = True
            elif type(module).__name__ == "Linear4bit":
                # Out of training bitsandbytes packs its weights for a kernel of CPUs that knows no gradient.
                module.training = True
        for parameter, _, _ in state:
            parameter.grad = None
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, trains, grad in state:
            parameter.requires_grad_(trains)
            parameter.grad = grad


def _refuse_own_dropout(name: str, module: nn.Module) -> None:
    for key, value in vars(module).items():
        if "drop" in key and isinstance(value, float) and value > 0:
            raise UserError(
                f"{name} has {key}={value} and checkpoints activations, so its dropout cannot be switched "
                "off: measure without gradient checkpointing"
            )
