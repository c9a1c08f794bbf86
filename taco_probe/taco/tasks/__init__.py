"""The thirty visual tasks, ten a category: `TASKS[name](image, annotation, strength=..., seed=...)`.

A new task is one function and one line here.
"""

from __future__ import annotations

from taco_probe.taco.tasks import generative as g
from taco_probe.taco.tasks import semantic as s
from taco_probe.taco.tasks import transformation as t
from taco_probe.taco.tasks.base import Category, Instance, Make, Need, Task

__all__ = ["CATEGORIES", "TASKS", "Instance", "Task"]

CATEGORIES: tuple[Category, ...] = ("semantic", "generative", "transformation")
STRENGTHS = (0.3, 1.0)  # drawn for training, unless a task says otherwise


def _semantic(name: str, make: Make, summary: str, *needs: Need) -> Task:
    return Task(name, "semantic", make, frozenset(needs or ("mask",)), None, summary)


def _generative(name: str, make: Make, summary: str, *needs: Need) -> Task:
    return Task(name, "generative", make, frozenset(needs), STRENGTHS, summary)


def _transformation(name: str, make: Make, summary: str, *, strength: bool = True) -> Task:
    return Task(name, "transformation", make, frozenset(), STRENGTHS if strength else None, summary)


_LIST = (
    _semantic("foreground_mask", s.on_mask(s.foreground), "all that is annotated, in white"),
    _semantic("class_mask", s.on_mask(s.class_mask), "each class in its colour", "mask", "classes"),
    _semantic("instance_mask", s.on_mask(s.instance_mask), "one region, in white", "mask", "regions"),
    _semantic("boxes", s.on_mask(s.boxes), "outlines of bounding boxes"),
    _semantic("centres", s.on_mask(s.centres), "Gaussian peaks at centroids"),
    _semantic("boundary", s.on_mask(s.boundary), "edges of the labels"),
    _semantic("distance", s.on_mask(s.distance), "distance to the background"),
    _semantic("skeleton", s.on_mask(s.skeleton), "the foreground thinned to lines"),
    _semantic("region_count", s.on_mask(s.region_count), "regions counted by hue", "mask", "regions"),
    _semantic("ellipses", s.on_mask(s.ellipses), "an ellipse around each region"),
    _generative("denoise_gaussian", g.degraded(g.gaussian_noise), "additive noise removed"),
    _generative("denoise_speckle", g.degraded(g.speckle), "multiplicative noise removed"),
    _generative("deblur", g.degraded(g.blur), "blur removed"),
    _generative("super_resolution", g.degraded(g.low_resolution), "resolution restored"),
    _generative("inpainting", g.degraded(g.holes), "holes filled"),
    _generative("colorization", g.degraded(g.grey), "colour restored", "colour"),
    _generative("restore_contrast", g.degraded(g.flat), "contrast restored"),
    _generative("remove_jpeg", g.degraded(g.jpeg), "artefacts of JPEG removed"),
    _generative("correct_bias_field", g.degraded(g.bias_field), "uneven illumination removed"),
    _generative("remove_sparse_view", g.degraded(g.sparse_view), "streaks of few projections removed"),
    _transformation("rotation", t.transformed(t.rotation), "turned about the centre"),
    _transformation(
        "flip_horizontal", t.transformed(t.flip_horizontal), "left and right exchanged", strength=False
    ),
    _transformation(
        "flip_vertical", t.transformed(t.flip_vertical), "top and bottom exchanged", strength=False
    ),
    _transformation("translation", t.transformed(t.translation), "moved"),
    _transformation("scaling", t.transformed(t.scaling), "enlarged or shrunk"),
    _transformation("shear", t.transformed(t.shear), "sheared along the rows"),
    _transformation("elastic", t.transformed(t.elastic), "warped smoothly at random"),
    _transformation("brightness", t.transformed(t.brightness), "brighter or darker"),
    _transformation("gamma", t.transformed(t.gamma), "values to a power"),
    _transformation("inversion", t.transformed(t.inversion), "black and white exchanged", strength=False),
)

TASKS: dict[str, Task] = {task.name: task for task in _LIST}
