"""A tiny checkpoint with random weights, built once, and entries and scenes to feed it."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from data_recipes.records import Box, Entry
from data_recipes.scene import Abnormality, Scene
from model_adapters.tiny.build import build
from model_adapters.tiny.describe import describe

SCENE = Scene(
    view="AP",
    ctr=0.53,
    cpar=0.31,
    edema=2,
    anatomy={"heart": Box(0.38, 0.45, 0.75, 0.72), "left lung": Box(0.53, 0.14, 0.86, 0.8)},
    abnormalities=(
        Abnormality("cardiomegaly", "", "", "", Box(0.38, 0.45, 0.75, 0.72), 0.08),
        Abnormality("nodule", "right", "upper", "small", Box(0.2, 0.25, 0.26, 0.31), 0.003),
        Abnormality("nodule", "right", "upper", "small", Box(0.3, 0.3, 0.35, 0.36), 0.002),
        Abnormality("pleural effusion", "left", "lower", "large", Box(0.55, 0.5, 0.85, 0.8), 0.06),
        Abnormality("mass", "left", "upper", "", Box(0.6, 0.2, 0.7, 0.3), 0.01),
        Abnormality(
            "support device", "", "", "", Box(0.5, 0, 0.53, 0.3), 0.01, {"kind": "endotracheal tube"}
        ),
    ),
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    rng = np.random.default_rng(0)
    texts = [text for one in describe(SCENE, rng, 40) for text in (one.header, one.text)]
    build(folder, [*texts, "Where is the nodule? What is in the region [0.00, 0.01]?"])
    return folder


@pytest.fixture(scope="session")
def adapter(tiny_folder):
    from model_adapters.registry import load_adapter

    return load_adapter(str(tiny_folder))


@pytest.fixture(scope="session")
def model(adapter):
    import torch

    return adapter.load_model(dtype=torch.float32).eval()


@pytest.fixture
def image():
    pixels = np.random.default_rng(1).integers(0, 256, (120, 160), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.fixture
def scene():
    return SCENE


@pytest.fixture
def entry():
    boxes = (Box(0.2, 0.25, 0.26, 0.31), Box(0.55, 0.5, 0.85, 0.8))
    return Entry(
        "e/rec/0", "e", "rec", "Where is the nodule, seen from {box}?", "{box}", boxes, "test/rec/phrase"
    )
