"""A folder shaped like the MIMIC-CXR family, at its real size or a multiple, with random content: what the
joins of a MIMIC source are timed on, since the real files may not leave their users' machines.

    python benchmarks/mimic_root.py FOLDER            377,110 images, 96,161 of them with a CTR
    python benchmarks/mimic_root.py FOLDER --scale 10

Tables, columns, codes and the shares of views, labels and missing rows are those of the published files, as
far as public descriptions say them; the names of the tables of edema grades are not. There are no images.
"""

from __future__ import annotations

import argparse
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

# At scale 1, as published.
PATIENTS, STUDIES, IMAGES, RATIOS = 65_379, 227_835, 377_110, 96_161
QUESTIONS, PHRASES, GRADES, CONSENSUS = 377_391, 1_162, 6_710, 141

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia",
    "Pneumothorax", "Support Devices",
)  # fmt: skip
_SENTENCES = (
    "The lungs are clear.",
    "Heart size is normal.",
    "There is no pleural effusion or pneumothorax.",
    "A small left pleural effusion is unchanged.",
    "Bibasilar atelectasis is noted.",
    "Compared to the prior study, the edema has improved.",
    "The cardiac silhouette is enlarged.",
    "A 1.5 cm nodule is seen in the right upper lobe.",
    "The endotracheal tube ends ___ cm above the carina.",
    "No acute osseous abnormality.",
)


def write_root(folder: Path, scale: float = 1.0, seed: int = 0) -> dict[str, int]:
    """Writes the folder and returns how many rows each kind of file has.

    Args:
        scale: 1 for the real size; the same seed and scale give the same files.
    """
    rng = np.random.default_rng(seed)
    number = {
        name: max(1, round(size * scale))
        for name, size in {
            "patients": PATIENTS, "studies": STUDIES, "images": IMAGES, "ratios": RATIOS,
            "questions": QUESTIONS, "phrases": PHRASES, "grades": GRADES, "consensus": CONSENSUS,
        }.items()
    }  # fmt: skip
    images = _images(number, rng)
    jpg = folder / "mimic-cxr-jpg"
    _packed(images.drop("split"), jpg / "mimic-cxr-2.0.0-metadata.csv.gz")
    _packed(
        images.select("dicom_id", "study_id", "subject_id", "split"), jpg / "mimic-cxr-2.0.0-split.csv.gz"
    )
    studies = images.select("subject_id", "study_id").unique(maintain_order=True)
    for name in ("chexpert", "negbio"):
        _packed(_labels(studies, rng), jpg / f"mimic-cxr-2.0.0-{name}.csv.gz")
    frontal = images.filter(pl.col("ViewPosition") == "PA")["dicom_id"].head(number["ratios"])
    _ratios(frontal, folder / "cxr-cardiomegaly", rng)
    _phrases(images.filter(pl.col("dicom_id").is_in(frontal.implode())), number["phrases"], folder, rng)
    _grades(images, number, folder / "mimic-cxr-pe-severity", rng)
    _questions(images, number["questions"], folder / "mimic-ext-mimic-cxr-vqa/dataset", rng)
    _reports(studies, folder / "mimic-cxr", rng)
    return number | {"studies": studies.height, "ratios": len(frontal)}


def _images(number: dict[str, int], rng: np.random.Generator) -> pl.DataFrame:
    """A row an image, sorted by patient as in the real file. Exactly `ratios` of them are PA."""
    again = rng.integers(number["patients"], size=max(0, number["studies"] - number["patients"]))
    patient = np.sort(np.concatenate([np.arange(number["patients"]), again]))  # of each study
    more = rng.integers(len(patient), size=max(0, number["images"] - len(patient)))
    study = np.sort(np.concatenate([np.arange(len(patient)), more]))[: number["images"]]
    subject = patient[study]
    views = rng.choice(["AP", "LATERAL", "LL", ""], size=len(study), p=[0.525, 0.295, 0.125, 0.055])
    views[rng.choice(len(study), size=min(number["ratios"], len(study)), replace=False)] = "PA"
    share = rng.random(number["patients"])
    split = np.where(share < 0.0045, "test", np.where(share < 0.0122, "validate", "train"))[subject]
    marks = rng.integers(2**32, size=(5, len(study)))
    ids = ["-".join(f"{mark:08x}" for mark in row) for row in marks.T]
    wide = rng.integers(1_500, 3_500, size=(2, len(study)))
    return pl.DataFrame(
        {
            "dicom_id": ids,
            "subject_id": subject + 10_000_000,
            "study_id": study + 50_000_000,
            "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
            "ViewPosition": views,
            "Rows": wide[0],
            "Columns": wide[1],
            "StudyDate": 21_800_101,
            "StudyTime": 120_000.5,
            "split": split,
        }
    )


def _labels(studies: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """1, 0, -1 or blank for each study and label; some 15 studies have no row."""
    drawn = rng.choice(
        [1.0, 0.0, -1.0, np.nan], size=(studies.height, len(LABELS)), p=[0.12, 0.06, 0.03, 0.79]
    )
    columns = {name: pl.Series(drawn[:, i]).fill_nan(None) for i, name in enumerate(LABELS)}
    return studies.with_columns(**columns).head(max(1, studies.height - 15))


def _ratios(ids: pl.Series, folder: Path, rng: np.random.Generator) -> None:
    """CTR and CPAR of PA images; a few rows hold NaN, a few ids end on .dcm."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mean in (("CTR", 0.48), ("CPAR", 0.33)):
        values = np.clip(rng.normal(mean, 0.07, size=len(ids)), 0.2, 0.9)
        values[rng.random(len(ids)) < 0.001] = np.nan
        named = [
            f"{one}.dcm" if draw < 0.01 else one for one, draw in zip(ids, rng.random(len(ids)), strict=True)
        ]
        pl.DataFrame({"dicom_file": named, name: values}).write_csv(folder / f"{name}s.csv")


def _phrases(images: pl.DataFrame, number: int, folder: Path, rng: np.random.Generator) -> None:
    """MS-CXR as COCO: boxes x, y, width, height in pixels of the original; one phrase may have two boxes."""
    shown: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    chosen = rng.integers(images.height, size=number)
    for place, row in enumerate(images[chosen].iter_rows(named=True)):
        subject, study = row["subject_id"], row["study_id"]
        path = f"files/p{str(subject)[:2]}/p{subject}/s{study}/{row['dicom_id']}.jpg"
        shown.append(
            {
                "file_name": f"{row['dicom_id']}.jpg", "width": row["Columns"], "height": row["Rows"],
                "id": place, "path": path,
            }
        )  # fmt: skip
        for _ in range(1 + int(rng.random() < 0.1)):
            x, y = (int(rng.integers(0, side // 2)) for side in (row["Columns"], row["Rows"]))
            boxes.append(
                {
                    "id": len(boxes), "image_id": place, "category_id": place % 8 + 1,
                    "bbox": [x, y, row["Columns"] // 4, row["Rows"] // 4],
                    "label_text": f"finding number {place % 97}",
                }
            )  # fmt: skip
    names = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Lung Opacity", "Pleural Effusion")
    categories = [
        {"id": n, "name": name} for n, name in enumerate((*names, "Pneumonia", "Pneumothorax"), start=1)
    ]
    target = folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"images": shown, "annotations": boxes, "categories": categories}))


def _grades(images: pl.DataFrame, number: dict[str, int], folder: Path, rng: np.random.Generator) -> None:
    """Grades of edema: of studies by rules on reports, of images by consensus."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, key, rows in (
        ("regex", "study_id", number["grades"]),
        ("consensus", "dicom_id", number["consensus"]),
    ):
        ids = images.select("subject_id", key).unique(key, keep="first", maintain_order=True)
        some = ids[np.sort(rng.choice(ids.height, size=min(rows, ids.height), replace=False))]
        grades = pl.Series(rng.integers(4, size=some.height))
        some.with_columns(edema_severity=grades).write_csv(folder / f"{name}.csv")


def _questions(images: pl.DataFrame, number: int, folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = images[np.sort(rng.integers(images.height, size=number))]
    items: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    file_of = {"train": "train", "validate": "valid", "test": "test"}
    answers = [["yes"], ["no"], ["left lung", "right lung"], []]
    drawn = rng.choice(4, size=number, p=[0.4, 0.4, 0.15, 0.05])
    for place, (image, study, subject, split) in enumerate(
        rows.select("dicom_id", "study_id", "subject_id", "split").iter_rows()
    ):
        items[file_of[split]].append(
            {
                "split": file_of[split], "idx": place, "subject_id": str(subject), "study_id": str(study),
                "image_id": image, "question": f"Is there any finding of kind {place % 48}?",
                "content_type": "presence", "semantic_type": "verify", "answer": answers[drawn[place]],
            }
        )  # fmt: skip
    for name, found in items.items():
        (folder / f"{name}.json").write_text(json.dumps(found))


def _reports(studies: pl.DataFrame, folder: Path, rng: np.random.Generator) -> None:
    """One zip archive of text files; one in seven reports has no findings section."""
    folder.mkdir(parents=True, exist_ok=True)
    picks = rng.integers(len(_SENTENCES), size=(studies.height, 5))
    bare = rng.random(studies.height) < 1 / 7
    with zipfile.ZipFile(
        folder / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for (subject, study), pick, short in zip(studies.iter_rows(), picks, bare, strict=True):
            told = [_SENTENCES[i] for i in pick]
            body = "" if short else f" FINDINGS:\n\n {' '.join(told[:4])}\n\n"
            text = f"{' ' * 33}FINAL REPORT\n EXAMINATION:  CHEST\n\n{body} IMPRESSION:\n\n {told[4]}\n"
            archive.writestr(f"files/p{str(subject)[:2]}/p{subject}/s{study}.txt", text)


def _packed(table: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as file:
        file.write(table.write_csv().encode())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the real size")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(json.dumps(write_root(asked.folder, asked.scale, asked.seed)))


if __name__ == "__main__":
    main()
