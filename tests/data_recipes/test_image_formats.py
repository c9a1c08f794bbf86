"""Image files of every kind that people have: each comes out as the picture that it shows, or is refused
with a reason. The oracles are formulas of the DICOM standard and pictures that were never packed."""

from __future__ import annotations

import importlib.util
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_recipes.pixels import decode, size
from tests.data_recipes.test_dicom import make

pydicom = pytest.importorskip("pydicom", reason="the extra `data` is not installed")
RAMP = np.array([[0, 500, 1000], [1500, 2000, 4095]])


def grey(path: Path) -> np.ndarray:
    return np.asarray(decode(path))


def stretched(values: np.ndarray) -> np.ndarray:
    """From black to white."""
    return np.round(255 * (values - values.min()) / np.ptp(values))


# PS3.3, C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT) and C.11.2.1.3.1 (SIGMOID), for values x.
WINDOWS = {
    "LINEAR": lambda x, c, w: np.clip((x - (c - 0.5)) / (w - 1) + 0.5, 0, 1),
    "LINEAR_EXACT": lambda x, c, w: np.clip((x - c) / w + 0.5, 0, 1),
    "SIGMOID": lambda x, c, w: 1 / (1 + np.exp(-4 * (x - c) / w)),
}


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", WINDOWS)
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1000)])
def test_windows_and_slopes_are_those_of_the_standard(tmp_path, function, kind, slope, intercept):
    tags = {"WindowCenter": 1500, "WindowWidth": 2500, "VOILUTFunction": function}
    tags |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    expected = stretched(WINDOWS[function](RAMP * slope + intercept, 1500, 2500))
    if kind == "MONOCHROME1":
        expected = 255 - expected
    found = grey(make(tmp_path / "a.dcm", RAMP, kind, **tags))
    assert np.abs(found - expected).max() <= 1


def test_the_first_of_several_windows_is_taken(tmp_path):
    both = make(tmp_path / "a.dcm", RAMP, WindowCenter=[1500, 50], WindowWidth=[2500, 100])
    one = make(tmp_path / "b.dcm", RAMP, WindowCenter=1500, WindowWidth=2500)
    assert (grey(both) == grey(one)).all()


def test_a_table_of_values_of_interest_goes_before_a_window(tmp_path):
    item = pydicom.Dataset()
    item.LUTDescriptor = [4, 0, 16]
    item.add_new("LUTData", "OW", np.array([0, 10_000, 20_000, 40_000], "<u2").tobytes())
    tags = {"VOILUTSequence": [item], "WindowCenter": 1, "WindowWidth": 2}
    path = make(tmp_path / "a.dcm", np.array([[0, 1], [2, 3], [3, 9]]), **tags)
    assert grey(path).tolist() == [[0, 64], [128, 255], [255, 255]]  # beyond the table: its last value


@given(arrays(np.uint16, (3, 5), elements=st.integers(0, 4095)))
def test_both_kinds_of_monochrome_are_each_others_negative(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("dicom")
    if np.ptp(values) == 0:
        return
    plain, inverted = (grey(make(folder / f"{n}.dcm", values, f"MONOCHROME{n}")) for n in (2, 1))
    assert np.abs(plain.astype(int) + inverted - 255).max() <= 1
    assert (np.argsort(plain, axis=None, kind="stable") == np.argsort(plain.ravel(), kind="stable")).all()
    assert plain[values == values.max()].min() == 255  # the brightest stays the brightest


def test_several_frames_are_refused_before_any_is_unpacked(tmp_path):
    path = make(tmp_path / "a.dcm", RAMP, NumberOfFrames=10**6)
    with pytest.raises(ValueError, match=r"a\.dcm: 1000000 frames are no single image"):
        decode(path)


def real(name: str) -> Path:
    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pydicom-data is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "data" / name


def test_a_real_radiograph_is_shown_as_by_the_formula_and_not_as_its_negative():
    dataset = pydicom.dcmread(real("RG1_UNCR.dcm"))
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    raw = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns).astype(float)
    centre, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    values = raw * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    expected = 255 - stretched(WINDOWS["LINEAR"](values, centre, width))
    assert np.abs(grey(real("RG1_UNCR.dcm")) - expected).max() <= 1


@pytest.mark.parametrize("name", ["RG1_J2KR.dcm", "RG3_J2KR.dcm", "MR2_J2KR.dcm"])
def test_a_file_in_lossless_jpeg_2000_shows_what_its_unpacked_twin_shows(name):
    assert (grey(real(name)) == grey(real(name.replace("J2KR", "UNCR")))).all()


REFUSED = {
    "JPEG-LL.dcm": r"JPEG Lossless, .* takes a decoder: pip install 'pylibjpeg\[all\]'",
    "emri_small_jpeg_ls_lossless.dcm": "10 frames are no single image",
    "emri_small.dcm": "10 frames are no single image",
    "SC_rgb.dcm": "RGB is no grey image",
    "color-pl.dcm": "RGB is no grey image",
    "color3d_jpeg_baseline.dcm": "120 frames are no single image",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "frames are no single image",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_grey_image_or_has_no_decoder_is_one_clear_line(name):
    path = real(name)
    if name == "JPEG-LL.dcm" and importlib.util.find_spec("libjpeg"):
        pytest.skip("a decoder is installed")
    with pytest.raises(ValueError, match=REFUSED[name]) as caught:
        decode(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert str(path.parent) not in str(caught.value)


def test_a_file_packed_as_a_whole_is_refused_unpacked(tmp_path):
    make(tmp_path / "plain.dcm", RAMP)
    dataset = pydicom.dcmread(tmp_path / "plain.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(ValueError, match="Deflated Explicit VR Little Endian is not read"):
        decode(tmp_path / "a.dcm")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_png_of_any_depth_is_neither_clipped_nor_dark(tmp_path, bits):
    white = 2**bits - 1
    values = np.array([[0, white // 2], [white // 4, white]])
    PIL.Image.fromarray(values.astype(np.uint16 if bits > 8 else np.uint8)).save(tmp_path / "a.png")
    assert np.abs(grey(tmp_path / "a.png") - values * 255 / white).max() <= 1


def test_what_is_transparent_is_black_whatever_colour_it_hides(tmp_path):
    colours = [[255, 255, 255, 0], [255, 255, 255, 255], [0, 255, 0, 255], [200, 200, 200, 127]]
    pixels = np.array([colours], np.uint8)
    PIL.Image.fromarray(pixels, "RGBA").save(tmp_path / "rgba.png")
    # luma of ITU-R 601: 0.587 of green
    assert grey(tmp_path / "rgba.png")[0].tolist() == [0, 255, round(0.587 * 255), pytest.approx(100, abs=1)]
    PIL.Image.fromarray(np.array([[[255, 0], [90, 255]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert grey(tmp_path / "la.png").tolist() == [[0, 90]]


def test_a_palette_is_looked_up_and_its_transparent_colour_is_black(tmp_path):
    image = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([250, 250, 250, 10, 10, 10, 99, 99, 99])
    image.save(tmp_path / "p.png")
    assert grey(tmp_path / "p.png").tolist() == [[250, 10, 99]]
    image.save(tmp_path / "t.png", transparency=2)
    assert grey(tmp_path / "t.png").tolist() == [[250, 10, 0]]


def test_a_tiny_file_that_claims_a_huge_image_is_refused_by_its_head(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10**6, 10**6, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(bomb)
    for read in (decode, size):
        with pytest.raises(ValueError, match="1000000000000 pixels"):
            read(tmp_path / "a.png")


def test_a_pipe_or_a_folder_is_no_image_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    for name in ("a.png", "b.png"):
        with pytest.raises(ValueError, match="no regular file"):
            decode(tmp_path / name)
