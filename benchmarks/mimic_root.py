"""A folder shaped like the MIMIC-CXR family, at its real size or a multiple, with random content: what the
joins of a MIMIC source are timed on, since the real files may not leave their users' machines.

    python benchmarks/mimic_root.py FOLDER            377,110 images, 96,161 of them PA with a row of ratios
    python benchmarks/mimic_root.py FOLDER --scale 10

Names, columns, codes and numbers of rows, views, splits, questions and boxes are those that people who have
the files report. Of the ratios only "over 93,000 values in 96,161 rows" is known: 3 % hold none. There are no
images, no scene graphs and no questions of Medical-Diff-VQA.
"""

from __future__ import annotations

import argparse
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

# At scale 1, as counted in the files.
PATIENTS, STUDIES, IMAGES, RATIOS = 65_379, 227_835, 377_110, 96_161
VIEWS = {"AP": 147_173, "LATERAL": 82_853, "LL": 35_133}  # and PA; the rest is blank
TEST, VALIDATE = 293, 500  # patients
PHRASES, IMAGES_WITH_PHRASES, REGEX, EXPERT, CONSENSUS, RADIOLOGIST = 1_160, 1_047, 6_710, 485, 141, 687
# File -> images, questions about them.
QUESTIONS = {"train": (133_687, 290_031), "valid": (8_610, 73_567), "test": (500, 13_793)}

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia",
    "Pneumothorax", "Support Devices",
)  # fmt: skip
_TEMPLATE = "Is there any ${category} within the ${object}?"
_ARGUMENTS = {
    "object": {"0": "left lower lung zone"}, "attribute": {}, "category": {"0": "anatomicalfinding"},
    "viewpos": {}, "gender": {},
}  # fmt: skip
_HEAD = "INDICATION:  ___ year old woman with cough and fever.  // please evaluate for acute process\n\n"
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

    def times(size: int) -> int:
        return max(1, round(size * scale))

    images = _images(times(PATIENTS), times(STUDIES), times(IMAGES), times, rng)
    jpg = folder / "mimic-cxr-jpg"
    _packed(images.drop("split"), jpg / "mimic-cxr-2.0.0-metadata.csv.gz")
    _packed(
        images.select("dicom_id", "study_id", "subject_id", "split"), jpg / "mimic-cxr-2.0.0-split.csv.gz"
    )
    studies = images.select("subject_id", "study_id", "split").unique("study_id", maintain_order=True)
    for name in ("chexpert", "negbio"):
        labels = _labels(studies.drop("split"), rng)
        _packed(labels.head(max(1, len(labels) - 8)), jpg / f"mimic-cxr-2.0.0-{name}.csv.gz")
    read = _labels(studies.filter(pl.col("split") == "test").head(times(RADIOLOGIST)).select("study_id"), rng)
    read = read.rename({"Lung Opacity": "Airspace Opacity"})
    read.write_csv(jpg / "mimic-cxr-2.1.0-test-set-labeled.csv")
    frontal = images.filter(pl.col("ViewPosition").is_in(["PA", "AP"]))
    ratios = images.filter(pl.col("ViewPosition") == "PA")["dicom_id"]
    _ratios(ratios, folder / "cxr-cardiomegaly", rng)
    _phrases(frontal, times(IMAGES_WITH_PHRASES), times(PHRASES), folder, rng)
    _grades(images, studies, times, folder / "mimic-cxr-pe-severity", rng)
    asked = _questions(frontal, scale, folder / "mimic-ext-mimic-cxr-vqa/dataset", rng)
    _reports(studies.select("subject_id", "study_id"), folder / "mimic-cxr", rng)
    return {
        "patients": images["subject_id"].n_unique(),
        "studies": studies.height,
        "images": images.height,
        "ratios": len(ratios),
        "questions": asked,
    }


def _images(
    patients: int, studies: int, number: int, times: Callable[[int], int], rng: np.random.Generator
) -> pl.DataFrame:
    """A row an image, sorted by patient as in the real file. Exactly `ratios` of them are PA."""
    again = rng.integers(patients, size=max(0, studies - patients))
    patient = np.sort(np.concatenate([np.arange(patients), again]))  # of each study
    more = rng.integers(len(patient), size=max(0, number - len(patient)))
    study = np.sort(np.concatenate([np.arange(len(patient)), more]))[:number]
    subject = patient[study]
    views = np.full(len(study), "", dtype=object)
    order, start = rng.permutation(len(study)), 0
    for view, size in {"PA": RATIOS, **VIEWS}.items():
        views[order[start : start + times(size)]] = view
        start += times(size)
    place = rng.permutation(patients)
    held = np.where(place < times(TEST) + times(VALIDATE), "validate", "train")
    split = np.where(place < times(TEST), "test", held)[subject]
    marks = rng.integers(2**32, size=(5, len(study)))
    ids = ["-".join(f"{mark:08x}" for mark in row) for row in marks.T]
    wide = rng.integers(1_500, 3_500, size=(2, len(study)))
    return pl.DataFrame(
        {
            "dicom_id": ids,
            "subject_id": subject + 10_000_000,
            "study_id": study + 50_000_000,
            "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
            "ViewPosition": pl.Series(views.tolist(), dtype=pl.String),
            "Rows": wide[0],
            "Columns": wide[1],
            "StudyDate": 21_800_101,
            "StudyTime": 120_000.5,
            "ProcedureCodeSequence_CodeMeaning": "CHEST (PA AND LAT)",
            "ViewCodeSequence_CodeMeaning": "postero-anterior",
            "PatientOrientationCodeSequence_CodeMeaning": "Erect",
            "split": split,
        }
    )


def _labels(studies: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """1, 0, -1 or blank for each study and label: a third of the studies "No Finding", one in a hundred
    blank, a finding or a doubt in the others."""
    drawn = rng.choice(
        [1.0, 0.0, -1.0, np.nan], size=(studies.height, len(LABELS)), p=[0.165, 0.06, 0.035, 0.74]
    )
    free = LABELS.index("No Finding")
    kind = rng.random(len(drawn))
    nothing = kind < 0.33
    blank = (kind >= 0.33) & (kind < 0.34)
    drawn[nothing] = np.where(drawn[nothing] == 0, 0.0, np.nan)
    drawn[blank] = np.nan
    drawn[:, free] = np.where(nothing, 1.0, np.nan)
    silent = ~nothing & ~blank & ~np.isin(drawn, (1.0, -1.0)).any(axis=1)
    drawn[silent, rng.integers(free, size=int(silent.sum()))] = 1.0
    columns = {name: pl.Series(drawn[:, i]).fill_nan(None) for i, name in enumerate(LABELS)}
    return studies.with_columns(**columns)


def _ratios(ids: pl.Series, folder: Path, rng: np.random.Generator) -> None:
    """CTR and CPAR of PA images; 3 % hold NaN or a code of the authors, a few ids end on .dcm."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mean in (("CTR", 0.48), ("CPAR", 0.33)):
        values = np.clip(rng.normal(mean, 0.07, size=len(ids)), 0.2, 0.9)
        gone = rng.random(len(ids))
        values = np.where(gone < 0.02, np.nan, np.where(gone < 0.03, rng.integers(2, 5, len(ids)), values))
        named = [
            f"{one}.dcm" if draw < 0.01 else one for one, draw in zip(ids, rng.random(len(ids)), strict=True)
        ]
        pl.DataFrame({"dicom_file": named, name: values}).write_csv(folder / f"{name}s.csv")


def _phrases(images: pl.DataFrame, number: int, phrases: int, folder: Path, rng: np.random.Generator) -> None:
    """MS-CXR as COCO: boxes x, y, width, height in pixels of the original; one phrase in four has two."""
    shown: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    chosen = images[np.sort(rng.choice(images.height, size=min(number, images.height), replace=False))]
    for place, row in enumerate(chosen.iter_rows(named=True)):
        subject, study = row["subject_id"], row["study_id"]
        path = f"files/p{str(subject)[:2]}/p{subject}/s{study}/{row['dicom_id']}.jpg"
        shown.append(
            {
                "file_name": f"{row['dicom_id']}.jpg", "width": row["Columns"], "height": row["Rows"],
                "id": place, "path": path,
            }
        )  # fmt: skip
    for phrase in range(phrases):
        place = phrase % len(shown)
        wide, high = shown[place]["width"], shown[place]["height"]
        for _ in range(1 + int(rng.random() < 0.25)):
            x, y = (int(rng.integers(0, side // 2)) for side in (wide, high))
            boxes.append(
                {
                    "id": len(boxes), "image_id": place, "category_id": place % 8 + 1,
                    "bbox": [x, y, wide // 4, high // 4],
                    "label_text": f"finding number {phrase % 97}",
                }
            )  # fmt: skip
    names = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Lung Opacity", "Pleural Effusion")
    categories = [
        {"id": n, "name": name} for n, name in enumerate((*names, "Pneumonia", "Pneumothorax"), start=1)
    ]
    target = folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"images": shown, "annotations": boxes, "categories": categories}))


def _grades(
    images: pl.DataFrame,
    studies: pl.DataFrame,
    times: Callable[[int], int],
    folder: Path,
    rng: np.random.Generator,
) -> None:
    """Grades of edema: of studies by rules and by experts on reports, of images by consensus."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table, rows in (
        ("regex_report", studies.select("subject_id", "study_id"), REGEX),
        ("expert_report", studies.select("subject_id", "study_id"), EXPERT),
        ("consensus_image", images.select("subject_id", "study_id", "dicom_id"), CONSENSUS),
    ):
        size = min(times(rows), table.height)
        some = table[np.sort(rng.choice(table.height, size=size, replace=False))]
        grades = pl.Series(rng.integers(4, size=size))
        some.with_columns(edema_severity=grades).write_csv(folder / f"{name}_edema_severity.csv")


def _questions(images: pl.DataFrame, scale: float, folder: Path, rng: np.random.Generator) -> int:
    """Each image of a file has a question at least. The files do not share images; the length of their rows
    is that of the real ones."""
    folder.mkdir(parents=True, exist_ok=True)
    order, start, total = rng.permutation(images.height), 0, 0
    answers = [["yes"], ["no"], ["left lung", "right lung"], []]
    for name, (wanted, asked) in QUESTIONS.items():
        size, number = max(1, round(wanted * scale)), max(1, round(asked * scale))
        chosen = order[start : start + size]
        start += size
        rows = images[np.concatenate([chosen, rng.choice(chosen, size=max(0, number - len(chosen)))])]
        drawn = rng.choice(4, size=rows.height, p=[0.4, 0.34, 0.145, 0.115])
        with (folder / f"{name}.json").open("w") as file:
            for place, (image, study, subject) in enumerate(
                rows.select("dicom_id", "study_id", "subject_id").iter_rows()
            ):
                item = {
                    "split": name, "idx": place, "subject_id": str(subject), "study_id": str(study),
                    "image_id": image, "image_path": f"p{str(subject)[:2]}/p{subject}/s{study}/{image}.jpg",
                    "question": f"Is there any finding of kind {place % 48} within the left lower lung zone?",
                    "semantic_type": "verify", "content_type": "presence", "template": _TEMPLATE,
                    "template_program": "program_5", "template_arguments": _ARGUMENTS,
                    "answer": answers[drawn[place]],
                }  # fmt: skip
                file.write(f"{',' if place else '['}\n{json.dumps(item, indent=4)}")
            file.write("]")
        total += rows.height
    return total


def _reports(studies: pl.DataFrame, folder: Path, rng: np.random.Generator) -> None:
    """One zip archive of text files; one in seven reports has no findings section."""
    folder.mkdir(parents=True, exist_ok=True)
    picks = rng.integers(len(_SENTENCES), size=(studies.height, 9))
    bare = rng.random(studies.height) < 1 / 7
    with zipfile.ZipFile(
        folder / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for (subject, study), pick, short in zip(studies.iter_rows(), picks, bare, strict=True):
            told = [_SENTENCES[i] for i in pick]
            body = "" if short else f" FINDINGS:\n\n {' '.join(told[:7])}\n\n"
            end = f" IMPRESSION:\n\n {' '.join(told[7:])}\n"
            text = f"{' ' * 33}FINAL REPORT\n EXAMINATION:  CHEST\n\n {_HEAD}{body}{end}"
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
