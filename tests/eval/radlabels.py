"""The 1,000 labelled synthetic chest reports that the package `radlabels` carries, as statuses of CheXpert's
observations. Its files are read without importing it: its dependencies clash with ours.

Its labels come from RadGraph and lists of phrases, and are not always right; docs/clinical.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from eval.clinical.labeller import Status, label

_STATUS = {
    "definitely absent": Status.NEGATIVE,
    "uncertain": Status.UNCERTAIN,
    "definitely present": Status.POSITIVE,
}
# Which of its 49 findings stand for an observation; it has none for "No Finding".
FINDINGS = {
    "Enlarged Cardiomediastinum": ("enlarged_cardiomediastinum",),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Opacity": ("lung_opacity", "air_space_opacity", "ground_glass_opacity", "infiltration"),
    "Lung Lesion": ("lung_lesion", "lung_nodule_or_mass"),
    "Edema": ("pulmonary_edema", "pulmonary_congestion_pulmonary_venous_congestion"),
    "Consolidation": ("consolidation",),
    "Pneumonia": ("pneumonia",),
    "Atelectasis": ("atelectasis", "lobar_segmental_collapse", "whole_lung_or_majority_collapse"),
    "Pneumothorax": ("pneumothorax",),
    "Pleural Effusion": ("pleural_effusion",),
    "Pleural Other": ("pleural_other", "pleural_thickening"),
    "Fracture": ("fracture_generic", "acute_rib_fracture", "non_acute_rib_fracture"),
    "Support Devices": (
        *("central_venous_catheter", "endotracheal_tube", "enteric_tube", "intercostal_drain"),
        *("pacemaker_electronic_cardiac_device_or_wires", "implantable_electronic_device"),
        *("support_devices_generic", "tracheostomy_tube"),
    ),
}
# Its opacities must be "focal", "patchy", "pulmonary", ...; CheXpert's need no such word. The rest maps
# cleanly.
CLEAN = tuple(observation for observation in FINDINGS if observation != "Lung Opacity")


@dataclass(frozen=True)
class Labelled:
    """One report; `theirs` holds what the package says of the observations it mentions."""

    name: str
    text: str
    theirs: Mapping[str, Status]


def reports() -> list[Labelled] | None:
    """All 1,000 in order; None where the package is not installed."""
    spec = find_spec("radlabels")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "samples"
    matches = json.loads((folder / "synthetic_matches.json").read_text(encoding="utf-8"))
    return [
        Labelled(
            name,
            (folder / "synthetic_reports" / f"{name}.txt").read_text(encoding="utf-8"),
            _observations(found["matches"]),
        )
        for name, found in sorted(matches.items())
    ]


def _observations(matches: Iterable[Mapping[str, str]]) -> dict[str, Status]:
    found: dict[str, Status] = {}
    for match in matches:
        for observation, findings in FINDINGS.items():
            # Its air space opacity includes consolidation and pneumonia, observations of their own.
            other = observation == "Lung Opacity" and (
                "consolid" in match["alias"] or "pneumon" in match["alias"]
            )
            if match["disease"] in findings and not other:
                status = _STATUS[match["label"]]
                found[observation] = max(status, found.get(observation, status))
    return found


@dataclass
class Agreement:
    """How often both, only the labeller, or only the package give an observation a status."""

    both: int = 0
    ours: int = 0
    theirs: int = 0

    @property
    def precision(self) -> float:
        return self.both / max(1, self.both + self.ours)

    @property
    def recall(self) -> float:
        return self.both / max(1, self.both + self.theirs)

    @property
    def f1(self) -> float:
        return 2 * self.both / max(1, 2 * self.both + self.ours + self.theirs)

    @property
    def n(self) -> int:
        return self.both + self.theirs


def agreement(
    labelled: Iterable[Labelled], observations: Iterable[str], statuses: frozenset[Status]
) -> Agreement:
    """Agreement on these statuses, pooled over observations."""
    found = Agreement()
    names = tuple(observations)
    for one in labelled:
        mine = label(one.text)
        for name in names:
            ours, theirs = mine.get(name) in statuses, one.theirs.get(name) in statuses
            found.both += ours and theirs
            found.ours += ours and not theirs
            found.theirs += theirs and not ours
    return found


# In the convention of the metric; the package itself calls "may reflect pneumonia" definitely present.
POSITIVE = frozenset({Status.POSITIVE, Status.UNCERTAIN})
NEGATIVE = frozenset({Status.NEGATIVE})
