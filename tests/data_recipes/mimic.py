"""A small copy of the MIMIC-CXR family, with what is odd in each of its files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_recipes.sources.chexpert import LABELS
from tests.data_recipes.datasets import write

JPG = "mimic-cxr-jpg/mimic-cxr-2.0.0-"
# Image -> patient, study, view, split. One study has two PA images, one a lateral one as well.
IMAGES = {
    "a1": ("10000001", "51", "PA", "train"),
    "a2": ("10000001", "51", "LATERAL", "train"),
    "b1": ("10000002", "52", "PA", "train"),
    "b2": ("10000002", "52", "PA", "train"),
    "c1": ("11000003", "53", "PA", "validate"),
    "d1": ("11000004", "54", "PA", "test"),
    "e1": ("12000005", "55", "AP", "train"),
    "f1": ("12000006", "56", "PA", "train"),
}
REPORTS = {
    "51": " FINDINGS:\n\n The lungs are clear. Compared to prior, the heart grew.\n\n IMPRESSION: Good.\n",
    "52": " WET READ\n\n IMPRESSION:\n\n Small effusion.  Tube ends ___ cm above the carina.\n",
    "53": " The heart is enlarged.\n No effusion.\n",
    "54": " FINDINGS:\n\n The effusion is unchanged.\n",
    "55": " FINDINGS:\n\n Edema.\n",
}


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def labels(*rows: dict[str, Any], keys: Sequence[str] = ("subject_id", "study_id"), **renamed: str) -> str:
    header = [*keys, *(renamed.get(label.replace(" ", "_"), label) for label in sorted(LABELS))]
    cells = [[row.get(key, "") for key in (*keys, *sorted(LABELS))] for row in rows]
    return table(header, cells)


def question(image: str, text: str, answer: Any, **more: Any) -> dict[str, Any]:
    subject, study = IMAGES.get(image, ("19999999", "59"))[:2]
    return {
        "image_id": image, "subject_id": subject, "study_id": study, "question": text,
        "semantic_type": "verify", "content_type": "presence", "answer": answer, **more,
    }  # fmt: skip


def archive(texts: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for study, text in texts.items():
            target.writestr(report_name(study), text)
    return packed.getvalue()


def report_name(study: str) -> str:
    subject = next(values[0] for values in IMAGES.values() if values[1] == study)
    return f"files/p{subject[:2]}/p{subject}/s{study}.txt"


def graph(*objects: dict[str, Any], attributes: Sequence[dict[str, Any]] = ()) -> str:
    return json.dumps({"objects": list(objects), "attributes": list(attributes), "relationships": []})


def region(name: str, *box: int | None) -> dict[str, Any]:
    small = {f"{corner}": 1 for corner in ("x1", "y1", "x2", "y2")}
    original = {f"original_{corner}": value for corner, value in zip(small, box, strict=True)}
    return {"object_id": f"x_{name}", "bbox_name": name, **small, **original}


def core(**more: str | bytes) -> dict[str, str | bytes]:
    """Metadata and splits, and cardiothoracic ratios of all PA images but f1."""
    metadata = table(
        ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime"],
        [
            [image, subject, study, view, 2000, 1000, 21800101, 1.5]
            for image, (subject, study, view, _) in IMAGES.items()
        ],
    )
    split = table(
        ["dicom_id", "study_id", "subject_id", "split"],
        [[image, study, subject, split] for image, (subject, study, _, split) in IMAGES.items()],
    )
    ratios = [["a1", 0.5], ["b1.dcm", 0.4], ["b2", 0.41], ["c1", 0.6], ["d1", 0.55], ["f1", "NaN"]]
    return {
        f"{JPG}metadata.csv.gz": gzip.compress(metadata.encode()),
        f"{JPG}split.csv.gz": gzip.compress(split.encode()),
        "cxr-cardiomegaly/CTRs.csv": table(["dicom_file", "CTR"], ratios),
        **more,
    }


def family() -> dict[str, str | bytes]:
    """Everything, the quirks included."""
    coco = {
        "images": [
            {"id": 7, "file_name": "a1.jpg", "width": 1000, "height": 2000, "path": "files/p10/a1.jpg"},
            {"id": 8, "file_name": "c1.jpg", "width": 1000, "height": 2000},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "bbox": [100, 200, 300, 400],
                "label_text": "left\n base",
            },
            {
                "id": 2,
                "image_id": 7,
                "category_id": 1,
                "bbox": [600, 200, 300, 400],
                "label_text": "left base",
            },
            {"id": 3, "image_id": 8, "category_id": 1, "bbox": [0, 0, 500, 1000], "label_text": " "},
        ],
        "categories": [{"id": 1, "name": "Pneumonia"}],
    }
    train = [
        question("a1", "Is there edema?", ["no"]),
        question("a1", "Which findings are there?", []),
        question("b1", "Where is the effusion?", ["left lung", "right lung"], content_type="anatomy"),
        question("a2", "Is it lateral?", ["yes"]),
    ]
    heart = {
        "bbox_name": "cardiac silhouette",
        "attributes": [["anatomicalfinding|yes|enlarged cardiac silhouette"]],
    }
    lung = {
        "bbox_name": "left lung",
        "attributes": [["nlp|yes|abnormal", "anatomicalfinding|yes|lung opacity"], ["disease|no|pneumonia"]],
    }
    clear = {
        "bbox_name": "left lung",
        "attributes": [["nlp|yes|normal"], ["anatomicalfinding|no|lung opacity", "disease|yes|pneumonia"]],
    }
    graphs = io.BytesIO()
    with zipfile.ZipFile(graphs, "w") as target:
        boxes = (region("cardiac silhouette", 200, 1000, 700, 1600), region("left lung", 500, 100, 950, 1500))
        target.writestr("scene_graph/a1_SceneGraph.json", graph(*boxes, attributes=[heart, lung]))
        target.writestr(
            "scene_graph/b1_SceneGraph.json", graph(region("left lung", 1, 2, 5000, 9), attributes=[clear])
        )
        target.writestr("scene_graph/c1_SceneGraph.json", "{broken")
        target.writestr("scene_graph/zz_SceneGraph.json", "{not wanted, never read")
    severity = ["subject_id", "study_id", "edema_severity"]
    return core(
        **{
            "cxr-cardiomegaly/CPARs.csv": table(
                ["dicom_file", "CPAR"], [["a1", 0.31], ["b1", 3], ["e1", 0.3]]
            ),
            f"{JPG}chexpert.csv.gz": gzip.compress(
                labels(
                    {"subject_id": "10000001", "study_id": "51", "Edema": "1.0", "Fracture": "-1.0"},
                    {"subject_id": "10000002", "study_id": "52", "No Finding": "1.0"},
                    {"subject_id": "11000003", "study_id": "53", "Pneumonia": "-1.0"},
                    {"subject_id": "11000004", "study_id": "54", "Lung Opacity": "1.0"},
                ).encode()
            ),
            f"{JPG}negbio.csv": labels({"subject_id": "10000001", "study_id": "51", "Pneumothorax": "1.0"}),
            "mimic-cxr-jpg/mimic-cxr-2.1.0-test-set-labeled.csv": labels(
                {"study_id": "54", "Lung Opacity": "0", "Cardiomegaly": "1"},
                keys=("study_id",),
                Lung_Opacity="Airspace Opacity",
            ),
            "mimic-cxr/mimic-cxr-reports.zip": archive(REPORTS),
            "pe/regex_report_edema_severity.csv": table(
                severity,
                [["10000001", "51", 2], ["10000002", "52", 1], ["12000006", "56", 3], ["11000003", "53", 9]],
            ),
            "pe/expert_report_edema_severity.csv": table(severity, [["10000001", "51", 1]]),
            "pe/consensus_image_edema_severity.csv": table(
                ["subject_id", "study_id", "dicom_id", "edema_severity"], [["10000002", "52", "b2", 3]]
            ),
            "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json": json.dumps(coco),
            "imagenome/silver_dataset/scene_graph.zip": graphs.getvalue(),
            "vqa/train.json": json.dumps(train),
            "vqa/valid.json": json.dumps([question("zz", "Is it there?", ["yes"]), "no object"]),
            "vqa/test.json": json.dumps([question("c1", "Is the heart large?", ["yes"])]),
            "diff/mimic_pair_questions.csv": table(
                ["study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split"],
                [
                    ["51", "10000001", "40", "difference", "What has changed?", "nothing", "train"],
                    ["51", "10000001", "40", "presence", "Is there a nodule?", "no", "train"],
                    ["52", "10000002", "", "view", "Which view is this?", "PA view", "train"],
                ],
            ),
        }
    )


def put(root: Path, **changed: str | bytes) -> Path:
    """The whole family with some files changed."""
    return write(root, {**family(), **changed})
