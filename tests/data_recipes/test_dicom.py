"""DICOM files as 8-bit grey images: a real radiograph, and files made here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from data_recipes.check import check
from data_recipes.pixels import decode, size
from data_recipes.recipe import mixture_folder
from data_recipes.store import open_image, read_mixture

pydicom = pytest.importorskip("pydicom", reason="the extra `data` is not installed")


def make(path: Path, pixels: np.ndarray, kind: str = "MONOCHROME2", **tags) -> Path:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = kind
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


GREY = np.array([[0, 1000], [2000, 4000]])


def test_values_are_stretched_from_dark_to_bright(tmp_path):
    path = make(tmp_path / "a.dcm", GREY)
    assert np.asarray(decode(path)).tolist() == [[0, 64], [128, 255]]
    assert size(path) == (2, 2)


def test_monochrome1_is_inverted(tmp_path):
    found = np.asarray(decode(make(tmp_path / "a.dicom", GREY, "MONOCHROME1")))
    assert found.tolist() == [[255, 191], [128, 0]]


def test_a_window_cuts_what_lies_outside(tmp_path):
    # the window of the standard: from 1000 to 2000, with its half-step
    found = np.asarray(decode(make(tmp_path / "a.dcm", GREY, WindowCenter=1500.5, WindowWidth=1001)))
    assert found.tolist() == [[0, 0], [255, 255]]


def test_a_slope_is_applied_before_the_window(tmp_path):
    tags = {"RescaleSlope": 2, "RescaleIntercept": 0, "WindowCenter": 3000.5, "WindowWidth": 2001}
    assert np.asarray(decode(make(tmp_path / "a.dcm", GREY, **tags))).tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nothing of the kind", "no DICOM image"), (None, "is missing")],
)
def test_a_broken_or_missing_file_is_one_reason(tmp_path, content, message):
    path = tmp_path / "a.dcm"
    if content is not None:
        path.write_bytes(content)
    for read in (decode, size):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert str(tmp_path) not in str(caught.value)


def test_an_image_larger_than_any_radiograph_is_refused_by_its_head(tmp_path):
    path = make(tmp_path / "a.dcm", np.zeros((1, 40_000)))
    with pytest.raises(ValueError, match="more than any radiograph has"):
        decode(path)


def test_a_real_radiograph_goes_into_a_mixture_as_png(tmp_path, monkeypatch):
    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pydicom-data is not installed")
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    real = Path(next(iter(spec.submodule_search_locations))) / "data/RG1_UNCR.dcm"
    root = tmp_path / "rows"
    root.mkdir()
    (root / "chest.dcm").write_bytes(real.read_bytes())
    row = {"image": "chest.dcm", "patient_id": "p", "split": "train", "task": "vqa", "prompt": "Is it PA?"}
    (root / "entries.jsonl").write_text(json.dumps({**row, "target": "yes"}) + "\n")
    folder = mixture_folder(str(root), progress=False)
    (image,) = read_mixture(folder).images
    assert (image.width, image.height) == (1841, 1955)
    assert image.path.endswith(".png")
    assert check(folder).sound
    grey = np.asarray(open_image(folder, image)).astype(float)
    spine, border = grey[600:1500, 850:990].mean(), grey[:60, :60].mean()
    assert spine > border  # bones are bright, air is dark: the file is MONOCHROME1
