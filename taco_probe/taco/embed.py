"""Embeddings of a pool, by a trained encoder or one with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.encoder import TaskEncoder
from taco_probe.taco.pool import Pool
from taco_probe.taco.progress import Progress
from taco_probe.taco.settings import Settings, read_settings
from taco_probe.taco.training import SETTINGS, ahead, load_encoder
from taco_probe.taco.views import Shown


def embed(run: Path, pool: Pool, *, batch_size: int = 256, quiet: bool = True) -> Embeddings:
    """A pool as the encoder of a finished run sees it, in its own view.

    Raises:
        UserError: no run there, or not finished.
    """
    settings = read_settings(run / SETTINGS)
    return embed_with(load_encoder(run, settings), settings, pool, batch_size=batch_size, quiet=quiet)


def untrained(
    settings: Settings, pool: Pool, seed: int, *, batch_size: int = 256, quiet: bool = True
) -> Embeddings:
    """A pool as an encoder of these settings sees it with random weights by the seed, also where training
    began with others. Its batch normalisation has seen nothing, so that it changes nothing."""
    encoder = TaskEncoder(settings.model_copy(update={"weights": ""}), seed=seed)
    return embed_with(encoder, settings, pool, batch_size=batch_size, quiet=quiet)


@torch.inference_mode()
def embed_with(
    encoder: TaskEncoder, settings: Settings, pool: Pool, *, batch_size: int = 256, quiet: bool = True
) -> Embeddings:
    """A pool as this encoder sees it. Every row is embedded for itself: batches only save time."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).eval()
    shown = Shown(pool, settings.view, settings.pool_seed)
    parts = np.array_split(np.arange(len(pool)), max(1, -(-len(pool) // batch_size)))
    vectors = np.zeros((len(pool), encoder.width), np.float32)
    with Progress("embedding", len(pool), "instance", quiet=quiet) as progress:
        for rows, pairs in zip(parts, ahead(lambda k: shown[parts[k]], 0, len(parts)), strict=True):
            seen = type(pairs)(*(images.to(device) for images in pairs))
            vectors[rows] = encoder.embed(seen).cpu().numpy()
            progress.step(len(rows))
    return Embeddings(vectors, pool.rows)
