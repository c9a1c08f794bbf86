"""What is true of one radiograph, measured on its geometry: the contract between sources that know the
anatomy (phantom, ct) and the code that turns truth into entries (`annotate`).

Sides are the patient's: the patient's left lies at the right of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data_recipes.records import Box

# The labels of the `findings` task, as the generated sources use them.
FINDINGS = (
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "edema",
    "nodule",
    "mass",
    "pleural effusion",
    "pneumothorax",
    "support device",
)
# Pulmonary edema, the four grades of MIMIC-CXR-PE-severity.
EDEMA_GRADES = ("no edema", "vascular congestion", "interstitial edema", "alveolar edema")


@dataclass(frozen=True)
class Abnormality:
    """One localised abnormality or device, seen on the projection.

    Attributes:
        name: a label of FINDINGS.
        side: "left", "right" or "" (no side, as for the heart).
        zone: "upper", "mid", "lower" or "" (third of the lung its centre lies in).
        size: "small", "moderate", "large" or "".
        box: tight box around its projected mask.
        area: area of its projected mask as a fraction of the image.
        attributes: further true properties, such as {"tip": "carina"} or {"kind": "central line"}.
    """

    name: str
    side: str
    zone: str
    size: str
    box: Box
    area: float
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Everything known about one radiograph.

    Attributes:
        view: "PA" or "AP".
        ctr: cardiothoracic ratio, widest heart width over widest inner thoracic width, both horizontal.
        cpar: cardiopulmonary area ratio, projected heart area over projected area of both lung fields.
        edema: grade 0..3, an index into EDEMA_GRADES.
        anatomy: tight boxes by name: "heart", "right lung", "left lung", ... (only what is inside the image).
        abnormalities: localised ones, in no particular order; cardiomegaly is one of them (box of the heart,
            when ctr > 0.5); edema is not (it is diffuse, see `edema`).
    """

    view: str
    ctr: float
    cpar: float
    edema: int
    anatomy: Mapping[str, Box]
    abnormalities: tuple[Abnormality, ...]

    @property
    def findings(self) -> frozenset[str]:
        """Labels of FINDINGS that are present."""
        named = {a.name for a in self.abnormalities}
        return frozenset(named | ({"edema"} if self.edema else set()))
