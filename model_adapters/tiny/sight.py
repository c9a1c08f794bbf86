"""The first stage of pretraining: vision tower and projector learn to see, without the language model.

Heads that are thrown away afterwards ask the image tokens what the language model will ask them: what lies in
each token's square, cell by cell, which boxes the token lies in, and what is true of the image as a whole. A
vision step costs a fifth of a step with the language model, and most of what is hard to learn is sight.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torchvision.ops import generalized_box_iou_loss
from transformers import LlavaForConditionalGeneration

from model_adapters.tiny.build import WIDTH
from model_adapters.tiny.material import CELLS, STRUCTURES, WHOLE_TRUTHS, Material, shuffled
from model_adapters.tiny.steps import Steps

CELL_WEIGHT = 8.0  # the mean over many empty cells is small
BOX_WEIGHT = 0.5
HEAD_WIDTH = 256
CONTRAST, BRIGHTNESS = 0.15, 0.2  # exposure varies by so much between passes


class Heads(torch.nn.Module):
    """What image tokens (B, T, WIDTH) say of the truths of `Material`."""

    def __init__(self) -> None:
        super().__init__()
        self.locator = torch.nn.Linear(WIDTH, len(STRUCTURES) * CELLS * CELLS)
        self.framer = torch.nn.Linear(WIDTH, len(STRUCTURES) * 4)
        self.whole = torch.nn.Sequential(
            torch.nn.Linear(2 * WIDTH, HEAD_WIDTH), torch.nn.GELU(), torch.nn.Linear(HEAD_WIDTH, WHOLE_TRUTHS)
        )

    def losses(
        self, tokens: torch.Tensor, material: Material, which: np.ndarray
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss to descend, and its parts: binary cross entropy of cells and of whole-image truths
        (targets may be shares), and of boxes L1 plus 1 - GIoU (Carion et al. 2020, DETR)."""
        pooled = torch.cat([tokens.mean(1), tokens.amax(1)], dim=-1)
        cells = bce(self.locator(tokens).float(), material.cover(which))
        whole = bce(self.whole(pooled).float(), material.whole(which))
        truth, weight = material.boxes(which)
        held = weight > 0
        boxes = _ordered(self.framer(tokens).float().unflatten(-1, (-1, 4))[held])
        apart = (boxes - truth[held]).abs().sum(-1) + generalized_box_iou_loss(boxes, truth[held])
        frames = (apart * weight[held]).sum() / weight.sum()
        parts = {"cells": cells, "whole": whole, "boxes": frames}
        return CELL_WEIGHT * cells + whole + BOX_WEIGHT * frames, parts


def _ordered(raw: torch.Tensor) -> torch.Tensor:
    """xyxy with x1 < x2 and y1 < y2 from centres and sizes in logits (N, 4)."""
    middle, size = raw.sigmoid().chunk(2, -1)
    return torch.cat([middle - size / 2, middle + size / 2], -1)


def image_tokens(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """(B, T, WIDTH): what the language model gets of images (B, 3, SIDE, SIDE)."""
    found: Any = model.model.get_image_features(pixels, return_dict=True).pooler_output
    return torch.stack(list(found))


def exposed(pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) with contrast and brightness a little off, for each image anew."""
    shape = (len(pixels), 1, 1, 1)
    contrast = torch.empty(shape).uniform_(1 - CONTRAST, 1 + CONTRAST)
    return pixels * contrast + torch.empty(shape).uniform_(-BRIGHTNESS, BRIGHTNESS)


def learn_to_see(
    model: LlavaForConditionalGeneration, heads: Heads, material: Material, args: argparse.Namespace
) -> dict[str, float]:
    """Trains vision tower, projector and heads; returns mean losses of the last steps."""
    seeing = [p for name, p in model.named_parameters() if "language_model" not in name]
    run = Steps([(seeing, 1.0), (list(heads.parameters()), 1.0)], args.sight_lr, args.sight_steps, "sight")
    for step in run.steps():
        first = (step - 1) * args.sight_batch
        which = np.array([shuffled(len(material), first + i, args.seed) for i in range(args.sight_batch)])
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            tokens = image_tokens(model, exposed(material.pixels(which)))
            loss, parts = heads.losses(tokens, material, which)
        run.descend(loss, parts, args.sight_batch)
    return run.last()
