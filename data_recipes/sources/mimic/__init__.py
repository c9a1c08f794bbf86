"""Source `mimic`: the MIMIC-CXR family, joined on dicom_id -> study_id -> subject_id around the images.

A file each for what a dataset of the family adds: `cohort` (images, MIMIC-CXR-JPG), `labels`, `reports`,
`ratios` (cxr-cardiomegaly), `edema` (mimic-cxr-pe-severity), `phrases` (MS-CXR), `scene_graphs` (Chest
ImaGenome), `questions` (MIMIC-Ext-MIMIC-CXR-VQA, Medical-Diff-VQA). All but the images are optional.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace

import polars as pl

from data_recipes import chexmask
from data_recipes.dataset import Dataset
from data_recipes.errors import UserError
from data_recipes.files import locate
from data_recipes.harvest import Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.sources.mimic import edema, labels, phrases, questions, ratios, reports, scene_graphs, tree
from data_recipes.sources.mimic.cohort import Cohort, held_out, read_cohort
from data_recipes.sources.mimic.options import FILES, Options

__all__ = ["FILES", "LICENCE", "NAME", "NOTES", "OPTIONS", "VERSION", "fingerprint", "harvest"]

NAME = "mimic"
VERSION = "2"
OPTIONS = Options
LICENCE = Licence(
    "PhysioNet Credentialed Health Data License 1.5.0 for each dataset; cxr-cardiomegaly: ODC-BY",
    access="credentialed",
    share="nothing may be passed on but the ratios of cxr-cardiomegaly, with the citation",
    page="physionet.org/content/mimic-cxr-jpg",
    cite=Cite(
        "johnson2019mimiccxrjpg",
        "Johnson, Alistair E. W. and Pollard, Tom J. and Greenbaum, Nathaniel R. and others",
        "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs",
        "arXiv 1901.07042",
        2019,
    ),
)
NOTES = (
    "MIMIC: labels and reports are those of the study, and stand with each of its images that is kept.",
    "MIMIC: CheXpert and NegBio labels, grades of edema by rules and scene graphs were made from reports by "
    "programs; ratios are measured on segmentations by a network.",
)


def fingerprint(options: Options) -> str:
    """Changes with the content of the tables and, where images or unpacked reports are read, when a study
    comes or goes: looking at each of 377,110 files would take minutes."""
    files = locate(options.root, NAME, FILES)
    parts = [files.fingerprint(FILES, images=False)]
    there = {item.key for item in FILES if files.find(item)}
    if options.placing != "skip" or "reports" not in there:
        parts.append(tree.state(files.root))
    if "graphs" not in there and (folder := scene_graphs.unpacked_folder(files.root)):
        parts.append(str(folder.stat().st_mtime_ns))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    cohort = read_cohort(data)
    measured = ratios.read_ratios(data)
    if data.has("chexmask"):  # of images that cxr-cardiomegaly does not measure
        rest = cohort.images.filter(~pl.col("image_id").is_in(measured["image_id"].implode()))
        masks = chexmask.read_ratios(data, rest, "dicom_id", options.masks)
        measured = pl.concat([measured, masks], how="diagonal")
    if options.base == "ratios":
        if not (data.has("CTR") or data.has("chexmask")):
            raise UserError(
                f"{data.files.root} holds no CTRs.csv, whose images are the base: get it, or set "
                "options.base to all"
            )
        cohort = ratios.with_ratio(cohort, measured)
    grades = edema.read_grades(data)
    radiologist = labels.read_radiologist(data) if data.has("radiologist") else None
    boxes = phrases.read_phrases(data) if data.has("phrases") else None
    asked = questions.read_questions(data, options)
    cohort = held_out(cohort, _gold(data, grades, radiologist, boxes, asked))

    ratios.write_ratios(cohort, measured)
    reports.write_reports(cohort, options)
    edema.write_grades(cohort, grades)
    if options.labeller != "imagenome":
        labels.write_study_labels(cohort, options, radiologist)
    if boxes is not None:
        phrases.write_phrases(cohort, boxes)
    if options.imagenome or options.labeller == "imagenome":
        _write_graphs(cohort, options)
    if asked is not None:
        questions.write_questions(cohort, asked, options)
    if "medical_diff_vqa" in options.questions and data.has("diff"):
        questions.write_study_questions(cohort)
    paths = tree.image_paths(data.files.root, cohort.images) if options.placing != "skip" else None
    return _required(data.harvest(cohort.images, paths=paths), options.require)


def _gold(
    data: Dataset,
    grades: dict[str, pl.DataFrame],
    radiologist: pl.DataFrame | None,
    boxes: pl.DataFrame | None,
    asked: pl.DataFrame | None,
) -> dict[str, pl.DataFrame]:
    """Facts whose patients may be held out, by the names of option hold_out."""
    groups: dict[str, pl.DataFrame] = {}
    for name in ("consensus", "expert"):
        if name in grades:
            groups[name] = grades[name].select("subject_id")
    if radiologist is not None:
        groups["radiologist"] = radiologist.select("study_id")
    if boxes is not None:
        groups["ms_cxr"] = boxes.filter(pl.col("split") == "test").select("image_id")
    if asked is not None:
        groups["questions"] = asked.filter("test").select("image_id")
    if data.has("gold"):
        groups["imagenome"] = data.table("gold", {"image_id": "dicom_id"}).select("image_id")
    return groups


def _write_graphs(cohort: Cohort, options: Options) -> None:
    graphs = scene_graphs.read_graphs(cohort)
    if graphs is None:
        return
    if options.labeller == "imagenome":
        scene_graphs.write_graph_findings(cohort, graphs)
    if "regions" in options.imagenome:
        scene_graphs.write_regions(cohort, graphs, options)
    if "questions" in options.imagenome:
        scene_graphs.write_attribute_questions(cohort, graphs, options)


def _required(found: Harvest, tasks: Collection[str]) -> Harvest:
    """Only the images with entries of all these tasks, of those tasks that have any."""
    present = set(found.entries["task"].unique())
    wanted = [task for task in tasks if task in present]
    image, notes = pl.col("image_id"), list(found.notes)
    having = {
        task: found.entries.filter(pl.col("task") == task)["image_id"].unique().implode() for task in wanted
    }
    lacks = {f"lacks {task}": ~image.is_in(ids) for task, ids in having.items()}
    images = found.funnel.keep("images with the tasks required", "images", found.images, lacks)
    left_out = {"its image was left out": ~image.is_in(images["image_id"].implode())}
    entries = found.funnel.keep("entries of images kept", "entries", found.entries, left_out)
    if idle := [task for task in tasks if task not in present]:
        notes.append(f"No file says anything of {', '.join(idle)}: not required of the images.")
    return replace(found, images=images, entries=entries, notes=tuple(notes))
