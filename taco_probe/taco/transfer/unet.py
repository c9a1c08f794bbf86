"""The network of the transfer study: a U-Net small enough to be trained hundreds of times."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (16, 32, 48, 64)  # channels at 1/2, 1/4, 1/8 and 1/16 of the side
_GROUPS = 8


class UNet(nn.Module):
    """Images (N, 3, S, S) to images (N, 3, S, S), S a multiple of 16; about 0.2 M parameters.

    Input and output are folded from 2 x 2 pixels into channels, so that no pixel is lost and no convolution
    runs at full size. Group normalisation, since batches are small. Without a shortcut from input to output:
    to keep the input is for training to find, or else the generative tasks would need none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(12, WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(
            _block(before, after) for before, after in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)
        )
        self.up = nn.ModuleList(
            _block(below + here, here) for below, here in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(WIDTHS[0], 12, 1)

    def body(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) to features (N, WIDTHS[0], S / 2, S / 2)."""
        x: torch.Tensor = self.stem(functional.pixel_unshuffle(images, 2))
        seen: list[torch.Tensor] = []
        for block in self.down:
            x = block(functional.avg_pool2d(x, 2) if seen else x)
            seen.append(x)
        for block, here in zip(self.up, seen[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2), here], dim=1))
        return x

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        folded: torch.Tensor = self.head(self.body(images))
        return functional.pixel_shuffle(folded, 2)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.GroupNorm(_GROUPS, after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.GroupNorm(_GROUPS, after),
        nn.ReLU(inplace=True),
    )
