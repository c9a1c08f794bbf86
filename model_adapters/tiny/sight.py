"""The first stage of pretraining: vision tower and projector learn to see, without the language model.

Two heads that are thrown away afterwards ask the image tokens what the language model will ask them: what
lies in each token's square, cell by cell, and what is true of the image as a whole. A vision step costs a
fifth of a step with the language model, and most of what is hard to learn is sight.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from transformers import LlavaForConditionalGeneration

from model_adapters.tiny.build import WIDTH
from model_adapters.tiny.material import CELLS, STRUCTURES, WHOLE_TRUTHS, Material, shuffled
from model_adapters.tiny.steps import Steps

CELL_WEIGHT = 8.0  # the mean over many empty cells is small
HEAD_WIDTH = 256
CONTRAST, BRIGHTNESS = 0.15, 0.2  # exposure varies by so much between passes


class Heads(torch.nn.Module):
    """Logits of the truths of `Material`, from image tokens (B, T, WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        self.locator = torch.nn.Linear(WIDTH, len(STRUCTURES) * CELLS * CELLS)
        self.whole = torch.nn.Sequential(
            torch.nn.Linear(2 * WIDTH, HEAD_WIDTH), torch.nn.GELU(), torch.nn.Linear(HEAD_WIDTH, WHOLE_TRUTHS)
        )

    def loss(
        self, tokens: torch.Tensor, cover: torch.Tensor, whole: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Binary cross entropy (targets may be shares) of cells and of whole-image truths."""
        pooled = torch.cat([tokens.mean(1), tokens.amax(1)], dim=-1)
        return bce(self.locator(tokens).float(), cover), bce(self.whole(pooled).float(), whole)


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
            cells, whole = heads.loss(tokens, material.cover(which), material.whole(which))
        run.descend(CELL_WEIGHT * cells + whole, {"cells": cells, "whole": whole}, args.sight_batch)
    return run.last()
