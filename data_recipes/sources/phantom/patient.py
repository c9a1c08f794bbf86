"""Who is on the radiograph: a body's dimensions, and one exposure's pose. In cm, axes as in `projection`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_recipes.sources.phantom.fields import VESSEL_FIELDS


@dataclass(frozen=True)
class Body:
    """Dimensions of one patient.

    Attributes:
        width, depth: greatest inner half-width and half-depth of the thorax.
        apex, dome: y of the lungs' apices and of the right diaphragm's highest point, at full inspiration.
        dome_step: how much lower the left dome is.
        wall: soft tissue outside the ribs.
        breast: thickness of the breasts, 0 for none.
        ctr: cardiothoracic ratio this heart has on an upright PA exposure without rotation.
        heart_turn, heart_tall: direction of the long axis (radians) and short over long axis.
        rib_pitch, rib_tilt, rib_width: distance between ribs, slope of the rib rings, width over pitch.
        curve: greatest sideways deviation of the spine (negative to the right).
        vessels, vessel_gain: which tree, and how marked it is.
        bone: how dense bones are, about 1.
        stomach: radius of the gas bubble under the left dome, 0 for none.
    """

    width: float
    depth: float
    apex: float
    dome: float
    dome_step: float
    wall: float
    breast: float
    ctr: float
    heart_turn: float
    heart_tall: float
    heart_offset: float
    knob: float
    mediastinum: float
    rib_pitch: float
    rib_tilt: float
    rib_width: float
    rib_phase: float
    curve: float
    clavicle: float
    shoulder: float
    vessels: int
    vessel_gain: float
    bone: float
    stomach: float


@dataclass(frozen=True)
class Pose:
    """One exposure.

    Attributes:
        view: "PA" or "AP".
        field: width of the square image in the plane z = 0.
        x, y: centre of the image.
        rotation: sine of the patient's rotation about the long axis.
        breath: how far (cm) the diaphragm stays above full inspiration.
        look: hospital's look, 0..7.
    """

    view: str
    field: float
    x: float
    y: float
    rotation: float
    breath: float
    look: int


def sample_body(rng: np.random.Generator, *, large_heart: bool) -> Body:
    """A patient. CTR is broad, so that predicting its mean is a poor answer."""
    female = rng.random() < 0.5
    habitus = float(np.clip(rng.normal(0, 1), -2, 2))
    ctr = rng.uniform(0.51, 0.65) if large_heart else rng.uniform(0.375, 0.487)
    width = (12.6 if female else 13.6) + 0.35 * habitus + rng.normal(0, 0.45)
    return Body(
        width=float(width),
        depth=float(width * rng.uniform(0.66, 0.76)),
        apex=float(-13.4 + rng.normal(0, 0.6)),
        dome=float(6.6 - 0.4 * habitus + rng.normal(0, 0.7)),
        dome_step=float(rng.uniform(0.4, 1.9)),
        wall=float(2.3 + 0.55 * (habitus + 1) + rng.uniform(0, 0.6)),
        breast=float(rng.uniform(1.2, 3.4) + 0.4 * habitus) if female else 0.0,
        ctr=float(ctr),
        heart_turn=float(rng.uniform(0.45, 0.85)),
        heart_tall=float(rng.uniform(0.66, 0.8)),
        heart_offset=float(rng.uniform(0.28, 0.38)),
        knob=float(rng.uniform(1.35, 2.0)),
        mediastinum=float(rng.uniform(2.3, 3.0)),
        rib_pitch=float(rng.uniform(2.55, 2.95)),
        rib_tilt=float(rng.uniform(0.42, 0.66)),
        rib_width=float(rng.uniform(0.19, 0.25)),
        rib_phase=float(rng.uniform(-0.5, 0.5)),
        curve=float(rng.normal(0, 0.45)),
        clavicle=float(rng.normal(0, 0.6)),
        shoulder=float(rng.normal(0, 0.8)),
        vessels=int(rng.integers(VESSEL_FIELDS)),
        vessel_gain=float(rng.uniform(0.75, 1.0)),
        bone=float(rng.uniform(0.75, 1.2)),
        stomach=float(rng.uniform(1.3, 2.6)) if rng.random() < 0.55 else 0.0,
    )


def sample_pose(rng: np.random.Generator, body: Body, looks: tuple[int, ...]) -> Pose:
    """An exposure: 60 % PA; AP ones are taken lying or sitting, less straight and less deeply inspired."""
    view = "PA" if rng.random() < 0.6 else "AP"
    loose = 1.0 if view == "PA" else 1.6
    return Pose(
        view=view,
        field=float(2 * (body.width + 0.6 * body.wall) + rng.uniform(4.0, 8.0)),
        x=float(rng.normal(0, 0.5 * loose)),
        y=float(-0.6 + rng.normal(0, 0.7)),
        rotation=float(np.clip(rng.normal(0, 0.035 * loose), -0.12, 0.12)),
        breath=float(np.clip(rng.normal(0.5 if view == "PA" else 1.6, 0.6), 0, 3.2)),
        look=int(looks[int(rng.integers(len(looks)))]),
    )
