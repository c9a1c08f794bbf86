"""FlexAttention for shared sequences: skips the blocks of the score matrix that no query may see.

transformers has it as `flex_attention`, for the models that declare it; the Qwen-VL classes do not, although
nothing in them stands against it. Registered under a name of its own, it works for all families. GPUs only:
torch has no backward pass of it on CPUs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface
from transformers.integrations.flex_attention import flex_attention_forward

NAME = "block_attention"


def block_mask(mask: torch.Tensor) -> BlockMask:
    """Who sees whom (B, L, L), bool, as FlexAttention reads it."""

    def sees(row: torch.Tensor, _: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return mask[row, query, key]

    rows, length, _ = mask.shape
    return create_block_mask(sees, rows, None, length, length, device=mask.device)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: BlockMask,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of (B, heads, L, D) queries to keys and values, as transformers calls it. Rotary embeddings
    leave float32 under autocast; FlexAttention wants one dtype."""
    like = value.dtype
    output: tuple[torch.Tensor, torch.Tensor | None] = flex_attention_forward(
        module, query.to(like), key.to(like), value, attention_mask, **options
    )
    return output


AttentionInterface.register(NAME, attend)
