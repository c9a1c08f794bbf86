"""A small root of every source of files, for tests of what people do to roots."""

from __future__ import annotations

import ctypes
import io
import json
import os
import struct
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from data_recipes.sources.chexpert import LABELS
from tests.data_recipes.datasets import picture, write


class Root(NamedTuple):
    """How a source's root is written: its table of one row an image id, the id of image number n, and the
    file of an id."""

    table: str
    rows: Callable[[Sequence[str]], str | bytes]
    image_id: Callable[[int], str]
    file: str = "images/{}"
    options: Mapping[str, Any] = MappingProxyType({})

    def write(self, root: Path, ids: Sequence[str]) -> Path:
        return write(root, {self.table: self.rows(ids)})

    def pictures(self, root: Path, ids: Sequence[str]) -> None:
        for name in ids:
            picture(root, self.file.format(name))


def csv(header: str, row: str) -> Callable[[Sequence[str]], str]:
    """Rows in which {id} is an image's id and {n} its number."""
    return lambda ids: "\n".join([header, *(row.format(id=name, n=n) for n, name in enumerate(ids))]) + "\n"


def objects(**fields: str) -> Callable[[Sequence[str]], str]:
    return lambda ids: json.dumps(
        [{key: said.format(id=name) for key, said in fields.items()} for name in ids], ensure_ascii=False
    )


def lines(ids: Sequence[str]) -> str:
    row = {"task": "vqa", "prompt": "Is it?", "target": "no"}
    return "".join(json.dumps({"image": name, "patient_id": f"p{n}", **row}, ensure_ascii=False) + "\n"
                   for n, name in enumerate(ids))  # fmt: skip


def reports(ids: Sequence[str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for n, name in enumerate(ids):
            text = (
                f'<eCitation><uId id="CXR{n}"/><AbstractText Label="FINDINGS">Clear lungs.</AbstractText>'
                f'<major>normal</major><parentImage id="{name}"/></eCitation>'
            ).encode()
            info = tarfile.TarInfo(f"reports/{n}.xml")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return packed.getvalue()


_NONE = ",".join("" for _ in LABELS[1:])
ROOTS = {
    "nih": Root("Data_Entry_2017.csv",
                csv("Image Index,Finding Labels,Patient ID,View Position", "{id},Effusion,{n},PA"),
                "{:08d}_000.png".format),
    "vindr": Root("annotations_train.csv",
                  csv("image_id,rad_id,class_name,x_min,y_min,x_max,y_max", "{id},R1,Cardiomegaly,1,1,6,6"),
                  "v{}".format, "train/{}.png"),
    "rsna": Root("stage_2_train_labels.csv",
                 csv("patientId,x,y,width,height,Target", "{id},256,256,512,512,1"), "r{}".format, "{}.png"),
    "siim": Root("train-rle.csv", csv("ImageId, EncodedPixels", "{id}, 256 2 1023 3"),
                 "s{}".format, "{}.png"),
    "chexpert": Root("train.csv",
                     csv(f"Path,Frontal/Lateral,AP/PA,{','.join(LABELS)}", "{id},Frontal,PA,1.0," + _NONE),
                     "CheXpert/train/patient{:05d}/study1/view1_frontal.jpg".format, "{}"),
    "openi": Root("NLMCXR_reports.tgz", reports, "CXR{}_IM-1".format, "images/{}.png",
                  {"views": ["PA", "AP", "unknown"]}),
    "padchest": Root("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
                     csv("ImageID,PatientID,Projection,Pediatric,MethodLabel,Report,Labels",
                         "{id},{n},PA,No,Physician,torax .,['pneumonia']"),
                     "{}.png".format),
    "vqa_rad": Root("VQA_RAD Dataset Public.json",
                    objects(image_name="{id}", question="Is it?", answer="no", phrase_type="freeform",
                            image_organ="CHEST", question_type="PRES"),
                    "{}.jpg".format),
    "slake": Root("train.json",
                  objects(img_name="{id}", question="Is it?", answer="no", q_lang="en", modality="X-Ray",
                          location="Lung", content_type="Organ"),
                  "xmlab{}/source.jpg".format, "imgs/{}"),
    "folder": Root("entries.jsonl", lines, "images/{}.png".format, "{}"),
}  # fmt: skip


class Watch:
    """Tells which files and folders below a folder were opened, by whatever code (inotify of Linux)."""

    _OPEN, _ACCESS = 0x20, 0x01

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            pytest.skip("this system has no inotify")
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            assert libc.inotify_add_watch(self._fd, os.fsencode(place), self._OPEN | self._ACCESS) > 0

    def opened(self) -> list[str]:
        """Names of what was opened since the last call; "" for a watched folder itself."""
        try:
            data = os.read(self._fd, 2**16)
        except BlockingIOError:
            return []
        names, place = [], 0
        while place < len(data):
            *_, length = struct.unpack_from("iIII", data, place)
            names.append(data[place + 16 : place + 16 + length].rstrip(b"\0").decode())
            place += 16 + length
        return names

    def close(self) -> None:
        os.close(self._fd)
