"""Cross entropy of the trained tokens of a batch.

Legend: B rows, L tokens, K of their places, V vocabulary, N trained tokens (labels that are not IGNORE).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from model_adapters.base import IGNORE


def predicts(labels: torch.Tensor) -> torch.Tensor:
    """The places (K,) that some row of labels (B, L) has a trained token right after."""
    return (labels[:, 1:] != IGNORE).any(0).nonzero()[:, 0]


def token_losses(
    logits: torch.Tensor, target: torch.Tensor, entry: torch.Tensor, smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of each trained token.

    Args:
        logits: (B, K, V).
        target: the token (B, K) that each predicts, IGNORE where nothing is trained.
        entry: which entry that token belongs to (B, K).

    Returns:
        losses (N,) in nats, float32 at least, and the entry (N,) that each belongs to.
    """
    trained = target != IGNORE
    wide = torch.promote_types(logits.dtype, torch.float32)
    # Only trained positions become float32: for a large vocabulary, full float32 logits would not fit.
    losses = F.cross_entropy(
        logits[trained].to(wide), target[trained], reduction="none", label_smoothing=smoothing
    )
    return losses, entry[trained]
