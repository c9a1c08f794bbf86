"""Baseline embeddings: what they see of a pair, and how wrong weights are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from data_recipes.errors import UserError
from taco_probe.taco.analysis import baselines
from taco_probe.taco.pool import Pool
from tests.taco_probe.taco.analysis.planted import planted

SIDE = 32


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Of noise; the first pair is equal, and the third shows the first's input again."""
    rows = planted(tasks=3, datasets=4, images=2).rows
    rng = np.random.default_rng(0)
    inputs, targets = (rng.integers(256, size=(rows.height, SIDE, SIDE, 3)).astype(np.uint8) for _ in "ab")
    targets[0] = inputs[0]
    inputs[2] = inputs[0]
    return Pool(inputs, targets, rows)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[baselines.Network, Path]:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), folder / "resnet18.pth")
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=16, projection_dim=8,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "clip")
    CLIPImageProcessor().save_pretrained(folder / "clip")
    return {"resnet18": folder / "resnet18.pth", "clip": folder / "clip"}


@pytest.mark.parametrize("name", ["resnet18", "clip"])
def test_both_images_and_their_difference_stand_side_by_side(
    name: baselines.Network, pool: Pool, weights: dict[baselines.Network, Path]
) -> None:
    found = baselines.pretrained(name, weights[name], pool)
    inputs, targets, differences = np.split(found.vectors, 3, axis=1)
    assert np.linalg.norm(inputs, axis=1) == pytest.approx(np.ones(len(pool)), abs=1e-5)
    assert np.linalg.norm(targets, axis=1) == pytest.approx(np.ones(len(pool)), abs=1e-5)
    assert differences == pytest.approx(targets - inputs)
    assert not differences[0].any()
    assert differences[1].any()
    assert (inputs[2] == inputs[0]).all()


def test_a_resnet_sees_images_as_torchvision_prepares_them(
    pool: Pool, weights: dict[baselines.Network, Path]
) -> None:
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(torch.load(weights["resnet18"], weights_only=True))
    network.fc = torch.nn.Identity()
    prepare = torchvision.transforms.v2.Compose(
        [
            torchvision.transforms.v2.ToImage(),
            torchvision.transforms.v2.ToDtype(torch.float32, scale=True),
            torchvision.transforms.v2.Resize((224, 224), antialias=True),
            torchvision.transforms.v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.inference_mode():
        expected = network.eval()(prepare(pool.inputs[5])[None])[0].numpy()
    found = baselines.pretrained(
        "resnet18", weights["resnet18"], Pool(pool.inputs[[5]], pool.targets[[5]], pool.rows[[5]])
    ).vectors[0, :512]
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-3)


def test_components_of_pixels_keep_distances_and_come_from_trained_datasets_alone(pool: Pool) -> None:
    some = baselines.pixels(pool, ["d0", "d1"])
    inputs = pool.inputs.copy()
    other = (pool.rows["dataset"] == "d3").to_numpy()
    inputs[other] = 255 - inputs[other]
    changed = baselines.pixels(Pool(inputs, pool.targets, pool.rows), ["d0", "d1"])
    assert some.vectors[~other] == pytest.approx(changed.vectors[~other])
    assert some.vectors[other] != pytest.approx(changed.vectors[other])
    every = baselines.pixels(pool, [f"d{number}" for number in range(4)])
    blocks = pool.inputs.reshape(len(pool), 16, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(len(pool), -1) / 255
    targets = pool.targets.reshape(len(pool), 16, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(len(pool), -1) / 255
    small = np.concatenate([blocks, targets], axis=1)
    expected = np.linalg.norm(small[:, None] - small[None], axis=2)
    assert np.linalg.norm(every.vectors[:, None] - every.vectors[None], axis=2) == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet50", "write NAME=PATH"),
        ("resnet5=x", "did you mean"),
        ("resnet50=/nowhere.pth", "does not exist"),
    ],
)
def test_what_is_no_network_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        baselines.read_weights([text])


def test_other_files_are_refused_by_name(
    tmp_path: Path, pool: Pool, weights: dict[baselines.Network, Path]
) -> None:
    with pytest.raises(UserError, match=r"resnet18\.pth"):
        baselines.pretrained("resnet50", weights["resnet18"], pool)
    with pytest.raises(UserError, match="no CLIP model"):
        baselines.pretrained("clip", tmp_path, pool)
