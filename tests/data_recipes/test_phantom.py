"""The phantom source: determinism, options, and truth that agrees with its own masks and pixels."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from data_recipes.errors import UserError
from data_recipes.scene import FINDINGS
from data_recipes.sources import phantom, source
from data_recipes.sources.phantom.plans import LARGEST_NODULE

SMALL = phantom.Options(size=96)


@pytest.fixture(scope="module")
def rendered():
    """(pixels, scene, masks) of the images of 120 patients at 96 px."""
    return [
        phantom.render_with_masks(11, index, k, SMALL)
        for index in range(120)
        for k in range(phantom.image_count(11, index))
    ]


def digest(seed: int, index: int) -> str:
    unit = phantom.Unit(seed, index, SMALL)
    sha = hashlib.sha256()
    for sample in phantom.read(unit):
        sha.update(sample.pixels.tobytes())
        sha.update(repr((sample.image, sample.entries)).encode())
    return sha.hexdigest()


def test_a_unit_gives_the_same_bytes_in_any_order_and_process():
    forward = [digest(5, index) for index in range(3)]
    assert [digest(5, index) for index in (2, 1, 0)] == forward[::-1]
    assert len(set(forward)) == 3
    code = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('here', {__file__!r});"
        "here = importlib.util.module_from_spec(spec); spec.loader.exec_module(here);"
        "print(here.digest(5, 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == forward[1]


def test_units_hold_enough_images_and_start_where_asked():
    units = phantom.units({"size": 64}, seed=1, images=40)
    counts = [phantom.image_count(1, unit.index) for unit in units]
    assert 40 <= sum(counts) < 43
    assert set(counts) == {1, 2, 3}
    assert phantom.units({}, seed=1, images=2, first=7)[0].index == 7
    assert len(phantom.units({}, seed=1, images=0)) == 0


def test_samples_are_named_and_filled():
    unit = phantom.units({"size": 80, "looks": [3]}, seed=2, images=1)[0]
    samples = phantom.read(unit)
    assert len(samples) == phantom.image_count(2, 0)
    for k, sample in enumerate(samples):
        assert sample.image.image_id == f"phantom-2-000000-{k}"
        assert sample.image.path == f"images/{sample.image.image_id}.png"
        assert sample.pixels.shape == (80, 80)
        assert sample.pixels.dtype == np.uint8
        assert len({entry.task for entry in sample.entries}) >= 4
    assert source("phantom") is phantom


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sise": 100}, "did you mean 'size'"),
        ({"size": 63}, "at least 64"),
        ({"size": 100.0}, "whole number"),
        ({"size": True}, "whole number"),
        ({"looks": [8]}, "from 0 to 7"),
        ({"looks": []}, "from 0 to 7"),
        ({"looks": 3}, "from 0 to 7"),
        ({"abnormal": 1.5}, "from 0 to 1"),
        ({"abnormal": "much"}, "from 0 to 1"),
        ({"abnormal": float("nan")}, "from 0 to 1"),
    ],
)
def test_bad_options_are_one_clear_line(options, said):
    with pytest.raises(UserError, match=said) as caught:
        phantom.units(options, seed=0, images=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"images": -1}, {"first": -1}])
def test_negative_numbers_are_refused(bad):
    with pytest.raises(UserError, match="negative"):
        phantom.units({}, **{"seed": 0, "images": 1, **bad})


def test_no_abnormality_when_none_is_asked_for():
    options = phantom.Options(size=64, abnormal=0.0)
    scenes = [phantom.render(3, index, 0, options)[1] for index in range(25)]
    assert not any(scene.edema for scene in scenes)
    assert not any(a.name != "cardiomegaly" for scene in scenes for a in scene.abnormalities)


def test_boxes_are_tight_on_their_masks(rendered):
    seen = 0
    for _, scene, masks in rendered:
        boxes = {f"{a.name} {n}": a.box for n, a in enumerate(scene.abnormalities)} | dict(scene.anatomy)
        assert set(boxes) == set(masks)
        for name, box in boxes.items():
            rows, columns = np.nonzero(masks[name])
            size = masks[name].shape[0]
            assert (columns.min(), rows.min()) == pytest.approx((box.x1 * size, box.y1 * size))
            assert (columns.max() + 1, rows.max() + 1) == pytest.approx((box.x2 * size, box.y2 * size))
            seen += 1
    assert seen > 600


def test_ratios_agree_with_the_masks(rendered):
    for _, scene, masks in rendered:
        heart = masks["heart"].any(axis=0).sum()
        lungs = masks["right lung"] | masks["left lung"]
        assert scene.cpar == pytest.approx(masks["heart"].sum() / lungs.sum())
        columns = np.flatnonzero(lungs.any(axis=0))
        # lung fields end a little inside the ribs, where the lung gets thin
        assert scene.ctr == pytest.approx(heart / (columns[-1] - columns[0] + 1), abs=0.035)
        assert any(a.name == "cardiomegaly" for a in scene.abnormalities) == (scene.ctr > 0.5)


def test_sides_are_the_patients(rendered):
    for _, scene, masks in rendered:
        assert scene.anatomy["right lung"].x2 <= scene.anatomy["left lung"].x1 + 0.02
        for n, a in enumerate(scene.abnormalities):
            if a.side and a.name != "support device":
                lung = scene.anatomy[f"{a.side} lung"]
                centre = (a.box.x1 + a.box.x2) / 2
                assert lung.x1 < centre < lung.x2
                assert not (
                    masks[f"{a.name} {n}"] & masks[f"{'left' if a.side == 'right' else 'right'} lung"]
                ).any()


def test_prevalences_are_those_of_a_teaching_file(rendered):
    counts, edema = Counter(), Counter()
    for _, scene, _ in rendered:
        counts.update(scene.findings)
        edema[scene.edema] += 1
        counts["clear"] += not scene.abnormalities
    n = len(rendered)
    for name in set(FINDINGS) - {"edema"}:
        assert 0.08 < counts[name] / n < 0.40, name
    assert 0.18 < counts["clear"] / n < 0.40
    assert all(0.08 < edema[grade] / n < 0.60 for grade in range(4))
    ctr = np.array([scene.ctr for _, scene, _ in rendered])
    assert ctr.std() > 0.05
    assert ctr.min() > 0.3
    assert ctr.max() < 0.75


def test_abnormalities_of_one_name_do_not_cover_each_other(rendered):
    for _, scene, masks in rendered:
        for n, a in enumerate(scene.abnormalities):
            for m, b in enumerate(scene.abnormalities[:n]):
                if a.name == b.name:
                    shared = (masks[f"{a.name} {n}"] & masks[f"{b.name} {m}"]).sum()
                    smaller = min(masks[f"{a.name} {n}"].sum(), masks[f"{b.name} {m}"].sum())
                    assert shared <= 0.1 * smaller


def test_what_is_claimed_is_seen_in_the_pixels():
    """Nodules, masses, consolidations and bands are brighter than the lung around them."""
    names = ("nodule", "mass", "consolidation", "atelectasis")
    brighter: dict[str, list[bool]] = {name: [] for name in names}
    for index in range(90):
        pixels, scene, masks = phantom.render_with_masks(
            21, index, 0, phantom.Options(size=160, looks=(0, 1))
        )
        for n, a in enumerate(scene.abnormalities):
            if a.name in names:
                mask = masks[f"{a.name} {n}"]
                ring = binary_dilation(mask, iterations=5) & ~binary_dilation(mask, iterations=2)
                ring &= masks[f"{a.side} lung"]
                others = [m for name, m in masks.items() if name.split()[-1].isdigit() and m is not mask]
                ring &= ~np.logical_or.reduce([np.zeros_like(mask), *others])
                if ring.sum() > 20:
                    found = pixels[mask].mean() > pixels[ring].mean() + 4
                    brighter[a.name].append(bool(found))
    assert all(len(found) >= 8 for found in brighter.values()), brighter
    assert all(np.mean(found) > 0.85 for found in brighter.values()), brighter


def test_size_changes_the_raster_and_not_the_truth():
    for index in range(8):
        scenes = [phantom.render(31, index, 0, phantom.Options(size=size))[1] for size in (128, 256)]
        assert scenes[0].ctr == pytest.approx(scenes[1].ctr, abs=1e-6)
        assert scenes[0].cpar == pytest.approx(scenes[1].cpar, rel=0.05)
        assert scenes[0].edema == scenes[1].edema
        for name, box in scenes[0].anatomy.items():
            assert box.iou(scenes[1].anatomy[name]) > 0.93


def test_nodules_stay_below_three_centimetres():
    assert 2 * LARGEST_NODULE < 3.0
