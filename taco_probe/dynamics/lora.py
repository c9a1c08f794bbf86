"""The LoRA modules of a model whose gradients can be measured, and where each of them stands.

Only plain LoRA on linear layers is measured: y = W0 x + s B A x, with A and B as PEFT's own `nn.Linear`.
Everything else that trains is refused by name, or left out by name if the caller asks for it.

Legend: d inputs, p outputs, r rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

from data_recipes.errors import UserError

KINDS = ("attention", "mlp", "projector", "other")
THIRDS = ("early", "middle", "late")
_ATTENTION = re.compile(r"\.(?:self_)?attn?\w*\.|attention|\.(?:q|k|v|o|qkv|out)_proj$")
_MLP = re.compile(r"\.mlp\.|feed_forward|\.(?:gate|up|down|gate_up)_proj$|\.fc\d$")
_PROJECTOR = re.compile(r"projector|merger|connector")
_NUMBER = re.compile(r"\.(?:layers|blocks|h)\.(\d+)\.")


class Group(NamedTuple):
    """Modules whose gradients are summed into one Gram matrix. `layer` is the number of the language model's
    layer, or one of THIRDS, or "" outside the layers; `kind` is one of KINDS."""

    layer: int | str
    kind: str


@dataclass(frozen=True)
class Lora:
    """One LoRA module.

    Attributes:
        name: as in `model.named_modules()`.
        a, b: the linear layers A (r, d) and B (p, r).
        scale: s.
        group: its layer and kind.
    """

    name: str
    a: nn.Linear
    b: nn.Linear
    scale: float
    group: Group

    @property
    def size(self) -> int:
        """Parameters, r (d + p)."""
        return self.a.weight.numel() + self.b.weight.numel()


@dataclass(frozen=True)
class Found:
    """What is measured, and the names of trainable parameters that are not."""

    modules: tuple[Lora, ...]
    left_out: tuple[str, ...]


def find(model: nn.Module, *, leave_out: str | None = None) -> Found:
    """The LoRA modules whose A and B train; all of them if nothing in the model trains (a saved adapter).

    Args:
        leave_out: regex (full match) of names of modules and parameters that are not measured. Without it,
            whatever trains and cannot be measured is an error.

    Raises:
        UserError: a module is no plain LoRA (DoRA, another variant, with a bias, on an embedding or a bare
            parameter, merged, switched off, several adapters at once), another parameter trains, or there is
            no LoRA at all. The message names the module.
    """
    skip = re.compile(leave_out) if leave_out is not None else None
    frozen = not any(parameter.requires_grad for parameter in model.parameters())
    modules, left_out = [], []
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        own = [p for key, p in layer.named_parameters() if "lora_" in key]
        if not frozen and not any(parameter.requires_grad for parameter in own):
            continue
        if skip and skip.fullmatch(name):
            continue
        modules.append(_plain(name, layer))
    measured = {id(weight) for one in modules for weight in (one.a.weight, one.b.weight)}
    if len(measured) < 2 * len(modules):
        raise UserError("two LoRA modules share a weight (tied adapters), so a gradient has no one module")
    for name, parameter in model.named_parameters():
        if id(parameter) in measured or not (parameter.requires_grad or (frozen and "lora_" in name)):
            continue
        module = name.rpartition(".")[0]
        if skip and any(map(skip.fullmatch, _prefixes(name))):
            left_out.append(name)
            continue
        raise UserError(
            f"parameter {name} trains, but is no weight of a plain LoRA module (a bias, modules_to_save, or "
            f"another kind of adapter), so its gradients are not measured; leave_out={re.escape(module)!r} "
            "measures the rest"
        )
    if not modules:
        raise UserError("the model has no LoRA module to measure")
    return Found(tuple(modules), tuple(left_out))


def by_third(modules: Iterable[Lora]) -> dict[str, Group]:
    """Group of each module by the third of the language model's layers that it is in."""
    modules = tuple(modules)
    numbers = [one.group.layer for one in modules if isinstance(one.group.layer, int)]
    layers = max(numbers, default=0) + 1
    return {one.name: Group(third(one.group.layer, layers), one.group.kind) for one in modules}


def third(layer: int | str, layers: int) -> str:
    """Which third of `layers` layers a layer is in, "" outside the layers."""
    return THIRDS[3 * layer // layers] if isinstance(layer, int) else ""


def _plain(name: str, layer: Any) -> Lora:
    """Raises: UserError: see `find`."""
    active = [adapter for adapter in layer.active_adapters if adapter in {*layer.r}]
    wrong = None
    if layer.merged:
        wrong = "is merged into its base weight: unmerge it"
    elif layer.disable_adapters:
        wrong = "is switched off"
    elif len(active) != 1:
        wrong = f"has {len(active)} active adapters: activate one"
    elif layer.use_dora.get(active[0]):
        wrong = "is DoRA, whose gradient is not that of plain LoRA"
    elif variant := layer.lora_variant.get(active[0]):
        wrong = f"is the LoRA variant {type(variant).__name__}, not plain LoRA"
    elif layer.lora_bias.get(active[0]):
        wrong = "has a bias in B (lora_bias)"
    elif active[0] not in layer.lora_A or not all(
        type(part[active[0]]) is nn.Linear for part in (layer.lora_A, layer.lora_B)
    ):
        base = type(layer.get_base_layer()).__name__
        wrong = f"is a {type(layer).__name__} on {base}, not plain LoRA on a linear layer"
    elif isinstance(layer, ParamWrapper):
        wrong = "is on a bare parameter (target_parameters)"
    elif len({part[active[0]].weight.requires_grad for part in (layer.lora_A, layer.lora_B)}) > 1:
        wrong = "trains A or B alone"
    if wrong:
        raise UserError(
            f"LoRA module {name} {wrong}: it cannot be measured; leave_out={re.escape(name)!r} "
            "measures the rest"
        )
    a, b = layer.lora_A[active[0]], layer.lora_B[active[0]]
    return Lora(name, a, b, float(layer.scaling[active[0]]), group_of(name))


def group_of(name: str) -> Group:
    """Layer and kind of a module, from its name."""
    dotted = f".{name}"
    if _PROJECTOR.search(dotted):
        return Group("", "projector")
    number = _NUMBER.search(dotted)
    kind = "mlp" if _MLP.search(dotted) else "attention" if _ATTENTION.search(dotted) else "other"
    return Group(int(number[1]) if number else "", kind)


def _prefixes(name: str) -> list[str]:
    """ "a.b.c" -> a, a.b, a.b.c: a parameter is left out with any module that holds it."""
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
