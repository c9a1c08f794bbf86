"""Policies of source `mimic`, and the files it looks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from data_recipes import chexmask
from data_recipes.errors import unknown
from data_recipes.files import Needed
from data_recipes.sections import ReportOptions
from data_recipes.sources import chexpert
from data_recipes.tasks import TASKS

HeldOut = Literal["consensus", "expert", "radiologist", "questions", "imagenome", "ms_cxr"]

_LABELS = "labels of studies: findings, vqa"

FILES = (
    Needed("metadata", ("mimic-cxr-2.0.0-metadata.csv",), "images, views, sizes, studies, patients"),
    Needed("split", ("mimic-cxr-2.0.0-split.csv",), "official splits"),
    Needed("chexpert", ("mimic-cxr-2.0.0-chexpert.csv",), f"{_LABELS} (labeller: chexpert)", False),
    Needed("negbio", ("mimic-cxr-2.0.0-negbio.csv",), f"{_LABELS} (labeller: negbio)", False),
    Needed(
        "radiologist",
        ("mimic-cxr-2.1.0-test-set-labeled.csv",),
        "a radiologist's labels of 687 test studies: findings, vqa",
        False,
    ),
    Needed(
        "reports",
        tuple(f"mimic-cxr-reports.{suffix}" for suffix in ("zip", "tar.gz", "tgz", "tar")),
        "reports: report (unpacked ones, files/p../p......../s.........txt, are found too)",
        False,
    ),
    Needed("CTR", ("CTRs.csv",), "cardiothoracic ratios, the images of base: ratios: calculation", False),
    Needed("CPAR", ("CPARs.csv",), "cardiopulmonary area ratios: calculation", False),
    chexmask.needed("MIMIC-CXR-JPG"),
    Needed("regex", ("regex_report_edema_severity.csv",), "grades of edema by rules: severity", False),
    Needed("expert", ("expert_report_edema_severity.csv",), "grades by experts: severity", False),
    Needed("consensus", ("consensus_image_edema_severity.csv",), "grades by consensus: severity", False),
    Needed(
        "phrases",
        tuple(
            f"MS_CXR_Local_Alignment_v{version}.{suffix}"
            for version in ("1.1.0", "1.0.0")
            for suffix in ("json", "csv")
        ),
        "phrases of MS-CXR with boxes: rec, reg",
        False,
    ),
    Needed(
        "graphs",
        ("scene_graph.zip",),
        "scene graphs of Chest ImaGenome, with option imagenome: rec, reg, vqa, findings (an unpacked folder "
        "scene_graph is found too)",
        False,
    ),
    Needed("gold", ("images_to_avoid.csv",), "gold patients of Chest ImaGenome, held out", False),
    Needed("vqa_train", ("train.json",), "questions of MIMIC-CXR-VQA: vqa", False, "semantic_type"),
    Needed("vqa_valid", ("valid.json",), "more questions: vqa", False, "semantic_type"),
    Needed("vqa_test", ("test.json",), "questions of its test patients: vqa", False, "semantic_type"),
    Needed("diff", ("mimic_pair_questions.csv",), "questions of Medical-Diff-VQA: vqa", False),
    Needed("diff_images", ("mimic_all.csv",), "which image of its study such a question is about", False),
)


class Options(chexpert.Options):
    """
    Attributes:
        base: which images are joined to: PA images with a cardiothoracic ratio, or all.
        require: an image that lacks an entry of one of these tasks is left out. A task of which no file says
            anything is not required.
        hold_out: whose patients are test patients, whatever `splits` says: those graded by consensus or by
            experts, the studies that a radiologist labelled, the test questions of MIMIC-CXR-VQA, the gold
            patients of Chest ImaGenome, the test phrases of MS-CXR.
        labeller: whose labels of findings; imagenome reads the attributes of the scene graphs.
        test_labels: whose labels count where a radiologist labelled the study too.
        presence: yes-or-no questions on labels, as many yes as no, or none.
        report: which part of a report is the target.
        questions: which sets of questions.
        empty_answer: what a question whose answer is the empty list becomes: "none", or nothing.
        imagenome: what else is taken from scene graphs: regions (rec, reg), questions on their attributes.
        graph_sample: the most regions, and the most questions, of one graph.
    """

    base: Literal["ratios", "all"] = "ratios"
    require: list[str] = Field(default=[])
    hold_out: list[HeldOut] = Field(
        default=["consensus", "expert", "radiologist", "questions", "imagenome", "ms_cxr"]
    )
    labeller: Literal["chexpert", "negbio", "imagenome"] = "chexpert"
    test_labels: Literal["radiologist", "labeller"] = "radiologist"
    presence: Literal["balanced", "none"] = "balanced"
    report: ReportOptions = Field(default=ReportOptions())
    questions: list[Literal["mimic_cxr_vqa", "medical_diff_vqa"]] = Field(
        default=["mimic_cxr_vqa", "medical_diff_vqa"]
    )
    empty_answer: Literal["none", "drop"] = "none"
    imagenome: list[Literal["regions", "questions"]] = Field(default=[])
    graph_sample: int = Field(default=2, ge=1)

    @field_validator("require")
    @classmethod
    def _known(cls, require: list[str]) -> list[str]:
        for task in require:
            if task not in TASKS:
                raise unknown("task", task, TASKS)
        return require
