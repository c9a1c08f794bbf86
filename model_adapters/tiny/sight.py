"""The first stage of pretraining: vision tower and projector learn to see, without the language model.

Heads that are thrown away afterwards ask the image tokens what the language model will ask them: what lies in
each token's square, cell by cell, which boxes the token lies in, and what is true of the image as a whole. A
vision step costs a fifth of a step with the language model, and most of what is hard to learn is sight.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torchvision.ops import generalized_box_iou_loss
from transformers import PreTrainedModel

from model_adapters.tiny.build import WIDTH
from model_adapters.tiny.material import CELLS, STRUCTURES, WHOLE_TRUTHS, Material, shuffled
from model_adapters.tiny.steps import Part, Progress, Steps

CELL_WEIGHT = 8.0  # the mean over many empty cells is small
BOX_WEIGHT = 0.5
HEAD_WIDTH = 256
CONTRAST, BRIGHTNESS = 0.15, 0.2  # exposure varies by so much between passes


class Heads(torch.nn.Module):
    """What image tokens (B, T, WIDTH) say of the truths of `Material`."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
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


def image_tokens(model: Any, vision: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(B, T, WIDTH): what the language model gets of images."""
    return torch.stack(list(model.model.get_image_features(**vision, return_dict=True).pooler_output))


def exposed(vision: Mapping[str, torch.Tensor], images: int, seed: int) -> dict[str, torch.Tensor]:
    """`vision` of `images` images with contrast and brightness a little off, for each image anew."""
    chance = torch.Generator().manual_seed(seed)
    pixels = vision["pixel_values"]
    shape = (images, 1)
    contrast = torch.empty(shape).uniform_(1 - CONTRAST, 1 + CONTRAST, generator=chance)
    brightness = torch.empty(shape).uniform_(-BRIGHTNESS, BRIGHTNESS, generator=chance)
    changed = pixels.view(images, -1) * contrast + brightness
    return {**vision, "pixel_values": changed.view_as(pixels)}


def seeing(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Vision tower and projector."""
    return {name: p for name, p in model.named_parameters() if not _reads(name)}


def reading(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """The language model."""
    return {name: p for name, p in model.named_parameters() if _reads(name)}


def _reads(name: str) -> bool:
    return "language_model" in name or name.startswith("lm_head")


def learn_to_see(
    model: PreTrainedModel, heads: Heads, material: Material, args: argparse.Namespace, progress: Progress
) -> dict[str, float]:
    """Trains vision tower, projector and heads; returns mean losses of the last steps."""
    parts = {"model": Part(seeing(model)), "heads": Part(dict(heads.named_parameters()))}
    run = Steps(parts, lr=args.sight_lr, count=args.sight_steps, name="sight", progress=progress)
    for step in run.steps():
        first = (step - 1) * args.sight_batch
        which = np.array([shuffled(len(material), first + i, args.seed) for i in range(args.sight_batch)])
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            vision = exposed(material.vision(which), len(which), first)
            loss, parts_of_it = heads.losses(image_tokens(model, vision), material, which)
        run.descend(loss, parts_of_it, args.sight_batch)
    return run.last()
