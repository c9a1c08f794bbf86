"""The join of recipe `imax_mimic` as one would write it with pandas: read, merge, group, apply. What
`benchmarks/recipes.py` compares the recipe with; the rules (which sentences, which labels) are the recipe's,
the joining is its own. It keeps no account of rows, hashes nothing and writes no card.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from data_recipes.sections import PRIOR, REMOVED, SENTENCE, split_sections

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax",
    "Support Devices",
)  # fmt: skip
_SENTENCE, _DROPPED = re.compile(SENTENCE), re.compile(f"{PRIOR}|{REMOVED}")
_REQUIRED = ("calculation", "report", "findings", "vqa")


def build(root: Path, out: Path) -> dict[str, int]:
    """Writes images.parquet, entries.parquet and mixture.json; returns the number of entries of each task."""
    images = _images(root)
    ratios = {name: _ratios(root, name) for name in ("CTR", "CPAR")}
    images = images[images.dicom_id.isin(ratios["CTR"].dicom_id)]
    grades = {
        path.name.split("_")[0]: pd.read_csv(path) for path in (root / "mimic-cxr-pe-severity").iterdir()
    }
    radiologist = pd.read_csv(root / "mimic-cxr-jpg/mimic-cxr-2.1.0-test-set-labeled.csv")
    asked = _asked(root)
    held = {*grades["consensus"].subject_id, *grades["expert"].subject_id}
    held |= set(images.subject_id[images.study_id.isin(radiologist.study_id)])
    held |= set(asked.subject_id[asked.split == "test"].astype(int))
    images["split"] = images.split.replace("validate", "validation").where(
        ~images.subject_id.isin(held), "test"
    )
    parts = [_calculation(images, table, name) for name, table in ratios.items()]
    parts += [_report(images, root), _severity(images, grades), _findings(images, root, radiologist)]
    parts += [_rec_and_reg(images, root), _vqa(images, asked)]
    entries = pd.concat(parts, ignore_index=True)
    for task in _REQUIRED:
        images = images[images.dicom_id.isin(entries.dicom_id[entries.task == task])]
    entries = entries[entries.dicom_id.isin(images.dicom_id)]
    number = entries.groupby(["dicom_id", "task"]).cumcount().astype(str)
    entries["entry_id"] = entries.dicom_id + "/" + entries.task + "/" + number
    out.mkdir(parents=True, exist_ok=True)
    images.to_parquet(out / "images.parquet")
    entries.to_parquet(out / "entries.parquet")
    split = entries.merge(images[["dicom_id", "split"]], on="dicom_id")
    counts = split.groupby(["split", "task"]).size().unstack(fill_value=0).to_dict("index")
    density = split.groupby("dicom_id").task.agg(["nunique", "size"]).mean().to_dict()
    (out / "mixture.json").write_text(json.dumps({"counts": counts, "density": density}))
    return {str(task): int(size) for task, size in entries.task.value_counts().items()}


def _images(root: Path) -> pd.DataFrame:
    jpg = root / "mimic-cxr-jpg"
    images = pd.read_csv(jpg / "mimic-cxr-2.0.0-metadata.csv.gz")
    split = pd.read_csv(jpg / "mimic-cxr-2.0.0-split.csv.gz")[["dicom_id", "split"]]
    images = images.merge(split, on="dicom_id").drop_duplicates("dicom_id")
    images = images[images.ViewPosition.isin(["PA", "AP"])]
    return images[["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "split"]]


def _ratios(root: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(root / f"cxr-cardiomegaly/{name}s.csv")
    table["dicom_id"] = table.dicom_file.str.removesuffix(".dcm")
    return table[table[name].notna() & ~table[name].isin([2, 3, 4])].drop_duplicates("dicom_id")


def _entries(rows: pd.DataFrame, task: str, prompts: Iterable[str] | str, targets: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"dicom_id": rows.dicom_id, "task": task, "prompt": prompts, "target": targets, "boxes": None}
    )


def _calculation(images: pd.DataFrame, table: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = images.merge(table, on="dicom_id")
    return _entries(
        rows, "calculation", f"Measure the {name}.", rows[name].apply(lambda v: f"{name} {v:.2f}")
    )


def _report(images: pd.DataFrame, root: Path) -> pd.DataFrame:
    texts = {}
    with zipfile.ZipFile(root / "mimic-cxr/mimic-cxr-reports.zip") as archive:
        names = {int(Path(name).stem[1:]): name for name in archive.namelist()}
        for study in images.study_id.unique():
            if study in names:
                texts[study] = _cleaned(archive.read(names[study]).decode())
    rows = images.assign(text=images.study_id.map(texts))
    rows = rows[rows.text.fillna("") != ""]
    return _entries(rows, "report", "Write a radiology report.", rows.text)


def _cleaned(text: str) -> str:
    sections = split_sections(text)
    body = next((sections[k] for k in ("findings", "impression", "last paragraph") if sections.get(k)), "")
    sentences = _SENTENCE.findall(" ".join(body.split()))
    return " ".join(s.strip() for s in sentences if re.search(r"\w", s) and not _DROPPED.search(s))


def _severity(images: pd.DataFrame, grades: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = []
    for source, key in (("consensus", "dicom_id"), ("expert", "study_id"), ("regex", "study_id")):
        parts.append(images.merge(grades[source][[key, "edema_severity"]].drop_duplicates(key), on=key))
    rows = pd.concat(parts).drop_duplicates("dicom_id")
    return _entries(
        rows, "severity", "What is the edema grade?", rows.edema_severity.apply(lambda g: f"grade {g}")
    )


def _findings(images: pd.DataFrame, root: Path, radiologist: pd.DataFrame) -> pd.DataFrame:
    labels = pd.read_csv(root / "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz")
    radiologist = radiologist.rename(columns={"Airspace Opacity": "Lung Opacity"})
    labels = pd.concat([radiologist, labels[~labels.study_id.isin(radiologist.study_id)]])
    rows: Any = images.merge(labels.drop(columns="subject_id"), on="study_id")
    rows["target"] = rows.apply(_listed, axis=1)
    rows = rows[rows.target.notna()]
    return _entries(rows, "findings", "Which findings are present?", rows.target)


def _listed(row: pd.Series) -> str | None:
    found = sorted(label.lower() for label in LABELS if row[label] == 1)
    return ", ".join(found) if found else "no finding" if row["No Finding"] == 1 else None


def _rec_and_reg(images: pd.DataFrame, root: Path) -> pd.DataFrame:
    coco = json.loads((root / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json").read_text())
    shown = pd.DataFrame(coco["images"])
    boxes: Any = pd.DataFrame(coco["annotations"]).merge(shown, left_on="image_id", right_on="id")
    boxes["dicom_id"] = boxes.file_name.str.removesuffix(".jpg")
    boxes = boxes[boxes.dicom_id.isin(images.dicom_id)]
    boxes["box"] = boxes.apply(_fractions, axis=1)
    boxes = boxes.drop_duplicates(["dicom_id", "label_text", "box"])
    rec = boxes.groupby(["dicom_id", "label_text"]).box.agg(list).reset_index()
    targets = rec.box.apply(lambda found: " ".join(["{box}"] * len(found)))
    found = _entries(rec, "rec", "Where is the " + rec.label_text + "?", targets).assign(boxes=rec.box)
    clear = boxes[
        [not any(_alike(row, other) for other in same.itertuples()) for row, same in _with_image(boxes)]
    ]
    reg = _entries(clear, "reg", "What is in {box}?", clear.label_text).assign(
        boxes=clear.box.apply(lambda box: [box])
    )
    return pd.concat([found, reg])


def _fractions(row: pd.Series) -> tuple[float, ...]:
    x, y, w, h = row.bbox
    corners = (x / row.width, y / row.height, (x + w) / row.width, (y + h) / row.height)
    return tuple(round(min(1, max(0, v)), 6) for v in corners)


def _with_image(boxes: Any) -> Iterable[tuple[Any, Any]]:
    groups = dict(iter(boxes.groupby("dicom_id")))
    return ((row, groups[row.dicom_id]) for row in boxes.itertuples())


def _alike(a: Any, b: Any) -> bool:
    """Whether two boxes of different phrases nearly coincide."""
    wide = max(0, min(a.box[2], b.box[2]) - max(a.box[0], b.box[0]))
    both = wide * max(0, min(a.box[3], b.box[3]) - max(a.box[1], b.box[1]))
    areas = [(one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) for one in (a, b)]
    return bool(a.label_text != b.label_text and both / (sum(areas) - both) > 0.6)


def _asked(root: Path) -> pd.DataFrame:
    items: list[dict[str, Any]] = []
    for name in ("train", "valid", "test"):
        items += json.loads((root / f"mimic-ext-mimic-cxr-vqa/dataset/{name}.json").read_text())
    return pd.DataFrame(items)


def _vqa(images: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    rows = images[["dicom_id"]].merge(asked, left_on="dicom_id", right_on="image_id")
    rows["said"] = rows.answer.apply(lambda found: ", ".join(found) or "none")
    rows = rows.drop_duplicates(["dicom_id", "question", "said"])
    return _entries(rows, "vqa", rows.question, rows.said)
