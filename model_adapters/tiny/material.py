"""What `tiny` is pretrained on: phantom images as its vision tower sees them, what lies where, and scenes.

Rendered once into a folder and read from there in every pass, because rendering costs as much as training.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.nn.functional import adaptive_avg_pool2d

from data_recipes.records import Box
from data_recipes.scene import FINDINGS, Abnormality, Scene
from data_recipes.sources import phantom
from data_recipes.tables import write_text
from model_adapters.adapter import Adapter
from model_adapters.tiny.build import DEVIATION, MEAN, PATCH, SIDE, build_images
from model_adapters.tiny.describe import SIDED, SIDES

RESERVED_SEED = 2_026_000  # recipes use smaller seeds, so no patient of theirs is seen here
HELD_OUT = 10_000_000  # number of the first patient that is only probed
GRID = SIDE // PATCH  # image tokens a side
CELLS = 4  # cells a side of an image token's square, in which the locator says what is there
STRUCTURES = ("heart", "right lung", "left lung", *(name for name in FINDINGS if name != "edema"))
DEVICES = ("central line", "endotracheal tube", "pacemaker")
_CHUNK = 64


def whole(scene: Scene) -> list[float]:
    """What is true of the image as a whole, each 0..1: view, grades reached, ratios, presence by side."""
    present = {(a.side, a.name) for a in scene.abnormalities}
    kinds = {a.attributes.get("kind") for a in scene.abnormalities}
    return [
        float(scene.view == "AP"),
        *(float(scene.edema >= grade) for grade in (1, 2, 3)),
        min(1.0, max(0.0, (scene.ctr - 0.35) / 0.35)),
        min(1.0, scene.cpar / 0.6),
        float(any(a.name == "cardiomegaly" for a in scene.abnormalities)),
        *(float(kind in kinds) for kind in DEVICES),
        *(float((side, name) in present) for name in SIDED for side in SIDES),
    ]


WHOLE_TRUTHS = 10 + len(SIDED) * len(SIDES)


def structures(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Share of each cell that each structure's projected mask covers, 0..255: (structures, GRID * CELLS,
    GRID * CELLS). Masks are named as by `phantom.render_with_masks`, (S, S) bool."""
    side = GRID * CELLS
    planes = torch.zeros(len(STRUCTURES), side, side)
    for key, mask in masks.items():
        name = key.rstrip("0123456789 ")  # "nodule 0"
        if name in STRUCTURES:
            plane = planes[STRUCTURES.index(name)]
            cover = adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), side)[0]
            torch.maximum(plane, cover, out=plane)
    return (planes * 255).round().to(torch.uint8).numpy()


def boxes(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Boxes by image token and structure, and their weights, of one scene, as `Material.boxes` gives them.

    A token belongs to a box that holds part of its square; of several of one structure, to the smallest.
    """
    xyxy = np.zeros((GRID, GRID, len(STRUCTURES), 4), np.float32)
    weight = np.zeros((GRID, GRID, len(STRUCTURES)), np.float32)
    named = [*scene.anatomy.items(), *((a.name, a.box) for a in scene.abnormalities)]
    for name, box in sorted(named, key=lambda pair: -pair[1].area):
        columns = slice(int(box.x1 * GRID), math.ceil(box.x2 * GRID))
        rows = slice(int(box.y1 * GRID), math.ceil(box.y2 * GRID))
        place = (rows, columns, STRUCTURES.index(name))
        xyxy[place] = box.xyxy
        weight[place] = 1 / max(1, weight[place].size)
    return xyxy.reshape(GRID * GRID, -1, 4), weight.reshape(GRID * GRID, -1)


class Material:
    """Rendered images, read from a folder that `prepare` filled, as the vision tower of `adapter` gets
    them."""

    def __init__(self, folder: Path, adapter: Adapter) -> None:
        self._adapter = adapter
        self._grey = np.load(folder / "grey.npy", mmap_mode="r")
        self._cover = np.load(folder / "cover.npy", mmap_mode="r")
        lines = (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
        self.scenes = [_scene(json.loads(line)) for line in lines]

    def __len__(self) -> int:
        return len(self.scenes)

    def vision(self, which: np.ndarray) -> dict[str, torch.Tensor]:
        """What the vision tower gets of these images, one after the other; see `Adapter.see`."""
        seen = [self._adapter.see(PIL.Image.fromarray(self._grey[number])) for number in which]
        return {key: torch.cat([one[key] for one in seen]) for key in seen[0]}

    def cover(self, which: np.ndarray) -> torch.Tensor:
        """(B, GRID * GRID, structures * CELLS * CELLS), 0..1: what lies in each image token's square."""
        cells = torch.from_numpy(self._cover[which]).float() / 255
        # to (B, structures, GRID, GRID, CELLS, CELLS)
        squares = cells.unfold(2, CELLS, CELLS).unfold(3, CELLS, CELLS)
        return squares.permute(0, 2, 3, 1, 4, 5).reshape(len(cells), GRID * GRID, -1)

    def boxes(self, which: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Which box each image token lies in: xyxy (B, GRID * GRID, structures, 4), 0..1, and the weight of
        each (B, GRID * GRID, structures), 0 where there is none; a box shares 1 among its tokens."""
        found = [boxes(self.scenes[i]) for i in which]
        xyxy, weight = (np.stack(part) for part in zip(*found, strict=True))
        return torch.from_numpy(xyxy), torch.from_numpy(weight)

    def whole(self, which: np.ndarray) -> torch.Tensor:
        """(B, WHOLE_TRUTHS), 0..1."""
        return torch.tensor([whole(self.scenes[i]) for i in which])


def shuffled(length: int, number: int, seed: int) -> int:
    """Image of presentation `number`: each pass over `length` images has an order of its own."""
    turn, place = divmod(number, length)
    rng = np.random.default_rng([seed, turn])
    stride = int(rng.integers(1, length))
    while math.gcd(stride, length) > 1:
        stride += 1
    return int((place * stride + int(rng.integers(length))) % length)


def prepare(folder: Path, images: int, seed: int, workers: int) -> None:
    """Renders `images` images of reserved patients into `folder`, or those that are not there yet. They are
    for all families alike."""
    done = folder / "done.json"
    wanted = {"images": images, "seed": seed, "phantom": phantom.VERSION}
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == wanted:
        return
    keys = [
        (unit.seed, unit.index, k)
        for unit in phantom.units({}, seed=RESERVED_SEED + seed, images=images)
        for k in range(phantom.image_count(unit.seed, unit.index))
    ][:images]
    assert not keys or keys[-1][1] < HELD_OUT
    chunks = [keys[start : start + _CHUNK] for start in range(0, images, _CHUNK)]
    parts = folder / f"parts-{phantom.VERSION}-{seed}-{images}"
    parts.mkdir(parents=True, exist_ok=True)
    todo = [n for n in range(len(chunks)) if not (parts / f"{n}.npz").exists()]
    begun = time.monotonic()
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as pool:
        draw = pool.map if workers else map
        for count, _ in enumerate(
            draw(_render, [chunks[n] for n in todo], [parts / f"{n}.npz" for n in todo]), start=1
        ):
            if count % 16 == 0 or count == len(todo):
                left = (time.monotonic() - begun) / count * (len(todo) - count) / 60
                print(
                    f"render {images - (len(todo) - count) * _CHUNK}/{images}: {left:.1f} min left",
                    flush=True,
                )
    side = GRID * CELLS
    grey = np.lib.format.open_memmap(folder / "grey.npy", "w+", np.uint8, (images, SIDE, SIDE))
    cover = np.lib.format.open_memmap(
        folder / "cover.npy", "w+", np.uint8, (images, len(STRUCTURES), side, side)
    )
    with (folder / "scenes.jsonl").open("w", encoding="utf-8") as scenes:
        for n, chunk in enumerate(chunks):
            with np.load(parts / f"{n}.npz", allow_pickle=False) as part:
                place = slice(n * _CHUNK, n * _CHUNK + len(chunk))
                grey[place], cover[place] = part["grey"], part["cover"]
                scenes.writelines(f"{line}\n" for line in part["scenes"])
    grey.flush()
    cover.flush()
    write_text(json.dumps(wanted), done)
    shutil.rmtree(parts)


def _render(keys: list[tuple[int, int, int]], file: Path) -> None:
    """Writes a chunk of the material, whole or not at all."""
    torch.set_num_threads(1)
    processor = build_images()
    grey, cover, scenes = [], [], []
    for seed, index, k in keys:
        pixels, scene, masks = phantom.render_with_masks(seed, index, k)
        image = PIL.Image.fromarray(pixels).convert("RGB")
        seen = processor(images=[image], return_tensors="pt")["pixel_values"][0, 0]
        levels = (seen * DEVIATION + MEAN) * 255
        grey.append(levels.round().clamp(0, 255).to(torch.uint8).numpy())
        cover.append(structures(masks))
        scenes.append(json.dumps(dataclasses.asdict(scene)))
    part = file.with_suffix(".part.npz")
    np.savez(part, grey=np.stack(grey), cover=np.stack(cover), scenes=np.array(scenes))
    part.replace(file)


def _scene(row: dict[str, Any]) -> Scene:
    found = tuple(Abnormality(**{**a, "box": Box(**a["box"])}) for a in row["abnormalities"])
    anatomy = {name: Box(**box) for name, box in row["anatomy"].items()}
    return Scene(**{**row, "anatomy": anatomy, "abnormalities": found})
