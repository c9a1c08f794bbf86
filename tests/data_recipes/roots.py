"""A small root of every source of files, for tests of what people do to roots."""

from __future__ import annotations

import ctypes
import io
import json
import os
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from data_recipes.img import SIDE
from data_recipes.sources.chexpert import LABELS
from tests.data_recipes.datasets import picture, write

Rows = Callable[[Sequence[str]], str | bytes]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Root(NamedTuple):
    """How a source's root is written.

    Attributes:
        table, rows: its first table, of one row an image id.
        image_id: the id of image number n.
        file: of an image, by its id.
        more: its other tables, of one row an image id.
        said: where a rejection says that row number n (from 1) with an id stands; by default in the table.
        packs: whether its tables may be packed, and are not yet.
        any_name: whether its tables could name any file as an image.
        picture: writes an image file.
    """

    table: str
    rows: Rows
    image_id: Callable[[int], str]
    file: str = "images/{}"
    options: Mapping[str, Any] = _NOTHING
    more: Mapping[str, Rows] = _NOTHING
    said: Callable[[int, str], tuple[str, int]] | None = None
    packs: bool = True
    any_name: bool = True
    picture: Callable[[Path, str], None] = picture

    @property
    def tables(self) -> Mapping[str, Rows]:
        return {self.table: self.rows, **self.more}

    def place(self, number: int, image_id: str) -> tuple[str, int]:
        return self.said(number, image_id) if self.said else (self.table, number)

    def write(self, root: Path, ids: Sequence[str], **changed: str | bytes) -> Path:
        """Writes all tables, some with other content, and returns the root."""
        return write(root, {name: rows(ids) for name, rows in self.tables.items()} | changed)

    def pictures(self, root: Path, ids: Sequence[str]) -> None:
        for name in ids:
            self.picture(root, self.file.format(name))


def csv(header: str, row: str) -> Callable[[Sequence[str]], str]:
    """Rows in which {id} is an image's id and {n} its number."""
    return lambda ids: "\n".join([header, *(row.format(id=name, n=ids.index(name)) for name in ids)]) + "\n"


def dumped(items: Iterable[Any], *, lines: bool = False) -> str:
    """A JSON list, or a JSON object a line."""
    if lines:
        return "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items)
    return json.dumps([*items], ensure_ascii=False)


def objects(*, lines: bool = False, **fields: Any) -> Callable[[Sequence[str]], str]:
    """An object an id, whose texts may name {id}."""
    return lambda ids: dumped(
        (
            {key: said.format(id=name) if isinstance(said, str) else said for key, said in fields.items()}
            for name in ids
        ),
        lines=lines,
    )


def own_rows(ids: Sequence[str]) -> str:
    row = {"task": "vqa", "prompt": "Is it?", "target": "no"}
    return dumped(({"image": name, "patient_id": f"p{ids.index(name)}", **row} for name in ids), lines=True)


def talks(ids: Sequence[str]) -> str:
    turns = [{"role": "user", "content": "<image>Is it?"}, {"role": "assistant", "content": "no"}]
    return dumped(
        ({"messages": turns, "images": [name], "patient_id": f"p{ids.index(name)}"} for name in ids),
        lines=True,
    )


def coco(ids: Sequence[str]) -> str:
    numbered = {name: ids.index(name) + 1 for name in ids}
    images = [
        {"id": n, "file_name": name, "width": 8, "height": 8, "patient_id": f"p{n}"}
        for name, n in numbered.items()
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 4, 4]} for n in numbered.values()]
    repeats = len(ids) // len(numbered)
    content = {"images": images * repeats, "annotations": boxes * repeats,
               "categories": [{"id": 1, "name": "Nodule"}]}  # fmt: skip
    return json.dumps(content, ensure_ascii=False)


def studies(ids: Sequence[str]) -> str:
    seen = {"sentence_en": "Nodule at the left.", "abnormal": True, "labels": ["nodule"], "locations": [],
            "boxes": [[0.1, 0.1, 0.5, 0.5]], "extra_boxes": [], "progression": None}  # fmt: skip
    clear = {"sentence_en": "No effusion.", "abnormal": False}
    return dumped({"StudyID": name, "ImageID": name, "findings": [seen, clear]} for name in ids)


def nodules(ids: Sequence[str]) -> str:
    return "".join(f"{name}.IMG\t5\t15\t53\tmale\t1024\t512\tmalignant\tl.upper lobe\r" for name in ids)


def densities(root: Path, name: str) -> None:
    """An `.IMG` file of one bright pixel."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(2 * SIDE * SIDE)
        file.write(b"\x0f\xff")


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
_PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
_CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv"
_READING = "Patient's Sex: F\nPatient's Age: 027Y\nnormal\n"
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
    "chexpert_plus": Root(
        "df_chexpert_plus_240401.csv",
        csv("path_to_image,frontal_lateral,ap_pa,split,report,section_findings,section_impression",
            "{id},Frontal,PA,train,Clear lungs.,Clear lungs.,No nodule."),
        "train/patient{:05d}/study1/view1_frontal.jpg".format, "PNG/{}",
        more={"CheXpert.csv": csv("Path,Dice RCA (Mean),Heart,Left Lung,Right Lung,Height,Width",
                                  "{id},0.9,11 3,14 3,9 2,8,8"),
              "impression_fixed.json": objects(
            lines=True, path_to_image="{id}", **dict.fromkeys(LABELS, 0.0) | {LABELS[2]: 1.0}
        )}),
    "openi": Root("NLMCXR_reports.tgz", reports, "CXR{}_IM-1".format, "images/{}.png",
                  {"views": ["PA", "AP", "unknown"]}, packs=False,
                  said=lambda number, _: (f"reports/{number - 1}.xml", 1)),
    "padchest": Root(_PADCHEST,
                     csv("ImageID,PatientID,Projection,Pediatric,MethodLabel,Report,Labels",
                         "{id},{n},PA,No,Physician,torax .,['pneumonia']"),
                     "{}.png".format),
    "padchest_gr": Root("grounded_reports_20240819.json", studies, "i{}.png".format,
                        more={"master_table.csv": csv("StudyID,ImageID,label,split,PatientID",
                                                      "{id},{id},nodule,train,p{n}"),
                              _PADCHEST: csv("ImageID,Projection", "{id},PA")}),
    "jsrt": Root("CLNDAT_EN.txt", nodules, "JPCLN{:03d}".format, "{}.IMG", any_name=False, picture=densities),
    "montgomery": Root("MCUCXR_0001_0.txt", lambda ids: _READING, "MCUCXR_{:04d}_0".format, "CXR_png/{}.png",
                       said=lambda _, name: (f"{name}.png", 1), packs=False, any_name=False),
    "mimic": Root(
        "mimic-cxr-2.0.0-metadata.csv",
        csv("dicom_id,subject_id,study_id,ViewPosition,Rows,Columns", "{id},{id},{id},PA,8,8"),
        "1000000{}".format, "files/p10/p{0}/s{0}/{0}.jpg", {"base": "all"},
        said=lambda number, _: (_CHEXPERT, number),
        more={
            "mimic-cxr-2.0.0-split.csv": csv("dicom_id,split", "{id},train"),
            _CHEXPERT: csv(f"study_id,{','.join(LABELS)}", "{id},1.0," + _NONE),
            "CTRs.csv": csv("dicom_file,CTR", "{id},0.5"),
            "CPARs.csv": csv("dicom_file,CPAR", "{id},0.4"),
            "regex_report_edema_severity.csv": csv("study_id,subject_id,edema_severity", "{id},{id},2"),
            "MS_CXR_Local_Alignment_v1.1.0.csv": csv(
                "dicom_id,label_text,x,y,w,h,image_width,image_height", "{id},left base,1,1,4,4,8,8"),
            "train.json": objects(image_id="{id}", subject_id="{id}", semantic_type="verify",
                                  content_type="presence", question="Is it?", answer=["no"]),
            "mimic_pair_questions.csv": csv("study_id,question_type,question,answer",
                                            "{id},view,Which view is it?,PA view"),
        }),
    "vqa_rad": Root("VQA_RAD Dataset Public.json",
                    objects(image_name="{id}", question="Is it?", answer="no", phrase_type="freeform",
                            image_organ="CHEST", question_type="PRES"),
                    "{}.jpg".format),
    "slake": Root("train.json",
                  objects(img_name="{id}", question="Is it?", answer="no", q_lang="en", modality="X-Ray",
                          location="Lung", content_type="Organ"),
                  "xmlab{}/source.jpg".format, "imgs/{}"),
    "folder": Root("entries.jsonl", own_rows, "images/{}.png".format, "{}", packs=False),
    "csv": Root("table.csv",
                csv("image,patient,label,xmin,ymin,xmax,ymax,image width,image height,question,answer",
                    "{id},p{n},Nodule,1,1,6,6,8,8,Is it?,no"),
                "c{}.png".format),
    "coco": Root("instances.json", coco, "c{}.png".format,
                 said=lambda number, _: ("instances.json:images", number)),
    "messages": Root("train.jsonl", talks, "images/{}.png".format, "{}", packs=False),
}  # fmt: skip


class Watch:
    """Tells which files and folders below a folder were opened, by whatever code (inotify of Linux)."""

    _OPEN, _ACCESS = 0x20, 0x01

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            pytest.skip("this system has no inotify")
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        if self._fd < 0:
            pytest.skip("this system gives no inotify instance")
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
