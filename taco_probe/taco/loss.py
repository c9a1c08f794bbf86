"""The supervised contrastive loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

OTHER = -1  # label of rows that are nobody's positives and everybody's negatives


def supervised_contrastive(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """L_out of Khosla et al. 2020 (arXiv 2004.11362, equation 2), the mean over anchors that have a positive:

        - 1/|P(i)| sum_{p in P(i)} log( exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t) )

    In float32 throughout, by a log-sum-exp, so that it is finite for any vectors and temperature.

    Args:
        vectors: (N, D), of any length; brought to length 1 here.
        labels: (N,) whole numbers. Rows with OTHER stand in every anchor's sum over a, and are neither
            anchors nor positives.
        temperature: t.

    Returns:
        A scalar; 0 where no row has a positive.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        units = F.normalize(vectors.float(), dim=1)
        logits = units @ units.T / temperature
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        log_share = logits - logits.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
        positive = (labels[:, None] == labels) & (labels[:, None] != OTHER) & ~itself
        count = positive.sum(dim=1)
        mean = (log_share * positive).sum(dim=1) / count.clamp(min=1)
        return -mean.sum() / (count > 0).sum().clamp(min=1)
