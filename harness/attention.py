"""Which attention shared sequences get: SDPA with a dense mask, or FlexAttention with a block mask.

Which is faster depends on the GPU, the lengths and how much of the mask is empty, so it is measured where the
run starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch.utils.benchmark import Timer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.arguments import ATTENTIONS
from model_adapters import packing
from model_adapters.adapter import Adapter


def settle(
    model: Any, adapter: Adapter, wanted: str, batch: Mapping[str, torch.Tensor], device: torch.device
) -> dict[str, Any]:
    """Sets the attention of the language model, the same in all processes.

    Args:
        wanted: a key of ATTENTIONS, or "auto": the faster of SDPA and FlexAttention on this batch where both
            can train (shared sequences on a GPU), else SDPA.
        batch: of `dataset.Collator`.

    Returns:
        attention: which it is; and, if measured, attention_seconds of each for one layer, there and back.
    """
    facts: dict[str, Any] = {"attention": wanted}
    if wanted == "auto":
        facts["attention"] = "sdpa"
        if device.type == "cuda" and "owner" in batch:
            masks = adapter.masks(batch)
            each = list(masks.values()) if isinstance(masks, dict) else [masks]
            spent = {name: seconds(ATTENTIONS[name], model, each, device) for name in ("sdpa", "flex")}
            facts = {"attention": min(spent, key=spent.__getitem__), "attention_seconds": spent}
    facts = broadcast_object_list([facts])[0]  # or processes would round differently
    if facts["attention"] != "sdpa":
        model.set_attn_implementation({"text_config": ATTENTIONS[facts["attention"]]})
    return facts


def seconds(kind: str, model: Any, masks: Sequence[torch.Tensor], device: torch.device) -> float:
    """Median time of attention forward and backward under each of `masks` (B, L, L), in the model's shape."""
    config = model.config.get_text_config()
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    rows, length, _ = masks[0].shape
    dtype = model.dtype
    layer: Any = torch.nn.Module()
    layer.num_key_value_groups, layer.is_causal = heads // groups, True
    query, key, value = (
        torch.randn(rows, count, length, size, dtype=dtype, device=device, requires_grad=True)
        for count in (heads, groups, groups)
    )
    forms = [packing.for_attention(kind, dtype, mask.to(device)) for mask in masks]
    attend = ALL_ATTENTION_FUNCTIONS[kind]

    def step() -> None:
        for form in forms:
            attend(layer, query, key, value, form, scaling=size**-0.5, dropout=0.0)[0].sum().backward()

    step()  # compiles
    return float(Timer("step()", globals={"step": step}).blocked_autorange(min_run_time=0.3).median)
