"""One radiograph of a warped chest: abnormalities, rays, exposure, and the scene that silhouettes show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data_recipes.scene import Abnormality, Scene
from data_recipes.sources.ct.anatomy import Anatomy
from data_recipes.sources.ct.devices import Device, draw_device
from data_recipes.sources.ct.lesions import Lesion, insert
from data_recipes.sources.ct.project import Pose, Projector
from data_recipes.sources.ct.warp import Warp, apply_warp, draw_warp
from data_recipes.sources.phantom.measure import (
    HEART_SIZES,
    LARGE_HEART,
    SIZES,
    size_word,
    tight_box,
    zone_word,
)

# As the phantom's words, except where the lung behind the diaphragm counts: a CT's effusion starts deeper.
LIMITS = {**SIZES, "pleural effusion": (0.36, 0.48)}
DEVICE = 0.3  # chance of a support device
WATER = 0.02  # attenuation of water per mm at about 70 keV
_WARP, _LESION, _POSE, _DEVICE, _EXPOSURE = range(5)


@dataclass(frozen=True, eq=False)
class Radiograph:
    """pixels: (H, W) uint8; masks: (H, W) bool, by names of the scene's anatomy and "<name> <n>" for
    abnormality n."""

    pixels: np.ndarray
    scene: Scene
    masks: dict[str, np.ndarray]


def render(anatomy: Anatomy, seed: int, index: int, size: int, warp: Warp | None = None) -> Radiograph:
    """The radiograph number `index`: a function of its arguments alone. `warp` replaces the random warp."""

    def stream(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, number])

    drawn = draw_warp(stream(_WARP))
    chest = apply_warp(anatomy, warp or drawn, stream(_WARP))
    lesions, grade = insert(chest, stream(_LESION))
    pose = draw_pose(chest, stream(_POSE))
    projector = Projector(chest, pose, size)
    path = projector.path(chest.attenuation)
    devices = []
    if stream(_DEVICE).random() < DEVICE:
        devices.append(draw_device(chest, projector, stream(_DEVICE)))
        path = path + devices[-1].path
    scene, masks = measure(chest, projector, pose.view, lesions, devices, grade)
    return Radiograph(expose(path, pose.view, stream(_EXPOSURE)), scene, masks)


def draw_pose(chest: Anatomy, rng: np.random.Generator) -> Pose:
    """An exposure around the lungs: 60 % PA; AP ones are nearer and less straight."""
    view = "PA" if rng.random() < 0.6 else "AP"
    loose = 1.0 if view == "PA" else 1.6
    ends = np.array([chest.extent(f"{side} lung") for side in ("left", "right")])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    reach = 1800.0 if view == "PA" else float(rng.uniform(1000, 1200))
    gap = 0.5 * chest.attenuation.shape[1] * float(chest.spacing[1]) + 30
    magnified = reach / (reach - gap)
    span = max(high[0] - low[0], high[2] - low[2]) * magnified
    centre = (low + high) / 2 + rng.normal(0, 5 * loose, 3)
    return Pose(
        view=view,
        source_to_detector=reach,
        source_to_patient=reach - gap,
        field=float(span * rng.uniform(1.1, 1.24)),
        rotation=float(np.clip(rng.normal(0, 2.5 * loose), -9, 9)),
        tilt=float(rng.normal(0, 2 * loose)),
        roll=float(rng.normal(0, 1.2 * loose)),
        shift=(-float(centre[0]), -float(centre[2])),
    )


def measure(
    chest: Anatomy, projector: Projector, view: str, lesions: list[Lesion], devices: list[Device], grade: int
) -> tuple[Scene, dict[str, np.ndarray]]:
    """The scene, from silhouettes alone, and the silhouettes.

    CTR is the heart's width over the width of both lungs together; CPAR the heart's area over that of the
    lungs, with the parts that the heart overlaps.
    """
    masks = {name: projector.silhouette(mask) for name, mask in chest.masks.items()}
    anatomy = {name: box for name, mask in masks.items() if (box := tight_box(mask)) is not None}
    lungs = masks["left lung"] | masks["right lung"]
    thorax, heart = tight_box(lungs), anatomy.get("heart")
    assert thorax is not None
    assert heart is not None, "poses keep heart and lungs in the field"
    ctr = (heart.x2 - heart.x1) / (thorax.x2 - thorax.x1)
    found: list[Abnormality] = []

    def add(name: str, side: str, size_of: str, mask: np.ndarray, attributes: dict[str, str]) -> None:
        box = tight_box(mask)
        if box is None:
            return
        lung = anatomy.get(f"{side} lung") if name != "support device" else None
        zone = zone_word((box.y1 + box.y2) / 2, lung) if lung else ""
        masks[f"{name} {len(found)}"] = mask
        found.append(Abnormality(name, side, zone, size_of, box, float(mask.mean()), attributes))

    for lesion in lesions:
        word = size_word(lesion.extent, LIMITS[lesion.name])
        add(lesion.name, lesion.side, word, projector.silhouette(lesion.mask), {})
    for device in devices:
        add("support device", device.side, "", device.mask, {"kind": device.kind})
    if ctr > LARGE_HEART:
        add("cardiomegaly", "", size_word(ctr, HEART_SIZES), masks["heart"], {})
    cpar = float(masks["heart"].sum() / lungs.sum())
    return Scene(view, float(ctr), cpar, grade, anatomy, tuple(found)), masks


def expose(path: np.ndarray, view: str, rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8 from path lengths in mm of water: Beer-Lambert, scatter, quanta, and the film's curve."""
    primary = np.exp(-WATER * path)
    spread = ndimage.gaussian_filter(primary, path.shape[0] / 12)
    scatter = rng.uniform(0.1, 0.2) if view == "PA" else rng.uniform(0.2, 0.35)
    dose = (1 - scatter) * primary + scatter * spread
    quanta = rng.uniform(100_000, 300_000)
    dose = dose + rng.normal(0, 1, path.shape) * np.sqrt(np.maximum(dose, 1e-6) / quanta)
    signal = -np.log(np.maximum(dose, 1e-4))
    # fine structure is lifted a little, as the processing of digital radiographs does
    signal = signal + rng.uniform(0.5, 0.9) * (signal - ndimage.gaussian_filter(signal, path.shape[0] / 40))
    body = signal[path > 5.0]
    low, high = np.percentile(body if body.size else signal, [2, 99.3])
    grey = np.clip((signal - low) / max(high - low, 1e-3), 0, 1) ** rng.uniform(1.0, 1.3)
    return np.asarray(np.round(12 + 238 * grey), dtype=np.uint8)
