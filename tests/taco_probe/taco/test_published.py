"""Files of MedSegBench and MedMNIST, whole and broken, and the table of public sets."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_recipes.errors import UserError
from taco_probe.taco.data import medmnist, medsegbench, origin_of
from taco_probe.taco.data.images import read_file
from taco_probe.taco.table import TABLE
from tests.taco_probe.taco.factories import grey, mask


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


def test_sets_that_share_images_or_patients_are_of_one_origin():
    origins = {row.name: row.origin for row in TABLE}
    assert origins["isic2018"] == origins["dermamnist"] != ""
    assert len({origins[f"organ{view}mnist"] for view in "acs"}) == 1
    assert origins["cellnuclei"] == origin_of("dsb_nuclei")
    assert origin_of("ct_radiographs") == origin_of("chest_ct")
    assert origins["drive"] == ""
    alone = [one for one in set(origins.values()) if one and list(origins.values()).count(one) == 1]
    assert alone == ["dsb2018"], "an origin that nothing shares says nothing"
