"""The encoder of visual tasks: a ResNet that sees an input and a target, and a projection for the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from data_recipes.errors import UserError
from taco_probe.taco.settings import Settings
from taco_probe.taco.views import Pairs

# ImageNet's, as weights that were trained on it expect; other datasets are near enough.
MEAN = (0.485, 0.456, 0.406)
SPREAD = (0.229, 0.224, 0.225)


class TaskEncoder(nn.Module):
    """(input, target) to an embedding, and to the projection that the loss sees.

    Attributes:
        width: of embeddings: 512 (resnet18) or 2048 (resnet50), twice that for two towers.
    """

    def __init__(self, settings: Settings, *, seed: int | None = None) -> None:
        """Random weights by the seed, by default that of the settings.

        Raises:
            UserError: a file of weights that does not fit.
        """
        super().__init__()
        self._fusion, self._bf16 = settings.fusion, settings.mixed_precision == "bf16"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed if seed is None else seed)
            self.backbone: Any = getattr(torchvision.models, settings.encoder)(weights=None)
            inner = int(self.backbone.fc.in_features)
            self.backbone.fc = nn.Identity()
            if settings.weights:
                _load(self.backbone, Path(settings.weights))
            if settings.fusion != "two_tower":
                self.backbone.conv1 = _six_channels(self.backbone.conv1, copied=bool(settings.weights))
            self.width = inner * 2 if settings.fusion == "two_tower" else inner
            self.projection = nn.Sequential(
                nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, settings.projection)
            )
        self.register_buffer("_mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("_spread", torch.tensor(SPREAD)[:, None, None], persistent=False)
        self.to(memory_format=torch.channels_last)  # the faster one on a CPU, and on a GPU in bf16

    def embed(self, pairs: Pairs) -> torch.Tensor:
        """(B, width) float32 embeddings of pairs, from before the projection."""
        inputs, targets = (self._scaled(images) for images in pairs)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._bf16):
            if self._fusion == "two_tower":
                both = self.backbone(torch.cat([inputs, targets]))
                vectors = torch.cat(both.chunk(2), dim=1)
            else:
                second = targets - inputs if self._fusion == "diff" else targets
                six = torch.cat([inputs, second], dim=1).contiguous(memory_format=torch.channels_last)
                vectors = self.backbone(six)
        return vectors.float()

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B, projection) float32, not normalised; images (B, 3, S, S) uint8."""
        projected: torch.Tensor = self.projection(self.embed(Pairs(inputs, targets)))
        return projected

    def _scaled(self, images: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = (images.float() / 255 - self._mean) / self._spread  # type: ignore[operator]
        return scaled.contiguous(memory_format=torch.channels_last)


def _six_channels(conv: nn.Conv2d, *, copied: bool) -> nn.Conv2d:
    """A first layer for six channels; `copied` gives both halves the three channels' weights, halved, so that
    two equal images give what one gave."""
    wider = nn.Conv2d(6, conv.out_channels, 7, stride=2, padding=3, bias=False)
    if copied:
        wider.weight.data = torch.cat([conv.weight.data] * 2, dim=1) / 2
    else:
        nn.init.kaiming_normal_(wider.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
    return wider


def _load(backbone: nn.Module, file: Path) -> None:
    """Raises UserError: no such file, or not this network's weights."""
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
        found = {name: value for name, value in found.items() if not name.startswith("fc.")}
        backbone.load_state_dict(found)
    except FileNotFoundError:
        raise UserError(f"--weights {file}: no such file") from None
    except Exception as error:  # what is not plain tensors is refused with errors of pickle's, among others
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--weights {file}: not the weights of this encoder: {reason}") from None
