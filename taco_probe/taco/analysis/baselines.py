"""Embeddings that no TaCo training made: raw pixels, and networks trained for something else.

A network sees input and target one after the other. The embedding is both features, each of length 1, and
their difference, side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch.nn import functional

from data_recipes.errors import UserError, unknown
from taco_probe.taco.embeddings import Embeddings, Vectors
from taco_probe.taco.encoder import MEAN, SPREAD, TaskEncoder
from taco_probe.taco.pool import Pool
from taco_probe.taco.progress import Progress
from taco_probe.taco.settings import Settings

PIXELS_SIDE, PIXELS_WIDTH = 16, 128
_SIDE = 224  # what torchvision's weights were trained at
_BATCH = 64

Network = Literal["resnet18", "resnet50", "clip"]
NETWORKS: tuple[Network, ...] = ("resnet18", "resnet50", "clip")
# (B, 3, S, S) in 0..1 -> (B, W)
Features = Callable[[torch.Tensor], torch.Tensor]


def pixels(pool: Pool, trained_on: Sequence[str]) -> Embeddings:
    """Pairs shrunk to 16 x 16 pixels, as their 128 principal components; the components are those of the
    right instances of the datasets that encoders were trained on."""
    vectors = np.concatenate([_shrunk(pool.inputs), _shrunk(pool.targets)], axis=1)
    fitted = (pool.rows["dataset"].is_in(list(trained_on)) & (pool.rows["failure"] == "")).to_numpy()
    fitted = fitted if fitted.sum() > 1 else np.ones(len(pool), bool)
    width = min(PIXELS_WIDTH, int(fitted.sum()), vectors.shape[1])
    reduced = PCA(width, svd_solver="covariance_eigh").fit(vectors[fitted]).transform(vectors)
    return Embeddings(reduced.astype(np.float32), pool.rows)


def _shrunk(images: NDArray[np.uint8]) -> Vectors:
    """(N, S, S, 3) bytes -> (N, 768) means of 16 x 16 areas."""
    parts = np.array_split(np.arange(len(images)), max(1, -(-len(images) // _BATCH)))
    pooled = (functional.adaptive_avg_pool2d(_fractions(images[part]), PIXELS_SIDE) for part in parts)
    return torch.cat([part.flatten(1) for part in pooled]).numpy()


def read_weights(given: Sequence[str]) -> dict[Network, Path]:
    """NAME=PATH, as `imax taco analyze --weights` takes it.

    Raises:
        UserError: another form, an unknown network, nothing there.
    """
    found: dict[Network, Path] = {}
    for text in given:
        name, separator, place = text.partition("=")
        if not separator or not place:
            raise UserError(f"--weights {text}: write NAME=PATH, such as resnet50=resnet50.pth")
        if name not in NETWORKS:
            raise unknown("network for --weights", name, NETWORKS)
        if not Path(place).exists():
            raise UserError(f"--weights {text}: {place} does not exist")
        found[name] = Path(place)
    return found


def pretrained(name: Network, place: Path, pool: Pool, *, quiet: bool = True) -> Embeddings:
    """A pool as a network sees it whose weights lie here: a file of torchvision's, or a folder with a CLIP
    model of transformers. Each image is computed once, however many instances show it.

    Raises:
        UserError: not the weights of this network.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = _clip(place, device) if name == "clip" else _resnet(name, place, device)
    images, places = _distinct((pool.inputs, pool.targets))
    parts = []
    with torch.inference_mode(), Progress(name, len(images), "image", quiet=quiet) as progress:
        for start in range(0, len(images), _BATCH):
            batch = [array[row] for array, row in images[start : start + _BATCH]]
            found = features(_fractions(np.stack(batch)).to(device)).float()
            parts.append(functional.normalize(found, dim=1).cpu().numpy())
            progress.step(len(batch))
    every: Vectors = np.concatenate(parts)
    inputs, targets = (every[rows] for rows in places)
    return Embeddings(np.concatenate([inputs, targets, targets - inputs], axis=1), pool.rows)


def _distinct(
    arrays: Sequence[NDArray[np.uint8]],
) -> tuple[list[tuple[NDArray[np.uint8], int]], list[list[int]]]:
    """Where each distinct image lies, and for each array the number of the image in each row."""
    known: dict[bytes, int] = {}
    images: list[tuple[NDArray[np.uint8], int]] = []
    places = []
    for array in arrays:
        numbers = []
        for row in range(len(array)):
            key = hashlib.blake2b(np.ascontiguousarray(array[row]).tobytes(), digest_size=16).digest()
            if key not in known:
                known[key] = len(images)
                images.append((array, row))
            numbers.append(known[key])
        places.append(numbers)
    return images, places


def _fractions(images: NDArray[np.uint8]) -> torch.Tensor:
    """(B, S, S, 3) bytes -> (B, 3, S, S) in 0..1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def _resnet(name: Literal["resnet18", "resnet50"], file: Path, device: torch.device) -> Features:
    settings = Settings(encoder=name, weights=str(file), fusion="two_tower")
    network = TaskEncoder(settings).backbone.to(device).eval()
    return _shown(network, MEAN, SPREAD, _SIDE, device)


def _clip(folder: Path, device: torch.device) -> Features:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    try:
        model: Any = CLIPVisionModelWithProjection.from_pretrained(str(folder), local_files_only=True)
        processor: Any = CLIPImageProcessor.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--weights clip={folder}: no CLIP model of transformers: {reason}") from None
    model = model.to(device).eval()
    side = int(model.config.image_size)
    return _shown(
        lambda images: model(pixel_values=images).image_embeds,
        processor.image_mean,
        processor.image_std,
        side,
        device,
    )


def _shown(
    network: Features, mean: Sequence[float], spread: Sequence[float], side: int, device: torch.device
) -> Features:
    """The network with images enlarged to its side and scaled as in its training."""
    centre, scale = (torch.tensor(list(values), device=device)[:, None, None] for values in (mean, spread))

    def features(images: torch.Tensor) -> torch.Tensor:
        shown = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return network((shown - centre) / scale)

    return features
