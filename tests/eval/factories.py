"""A small mixture with all seven tasks, and answers to it, without any source, model or built recipe."""

import numpy as np
import PIL.Image

from data_recipes.records import Box, Entry, Image, Mixture
from data_recipes.stats import counts
from data_recipes.store import write_mixture
from data_recipes.tasks import task
from data_recipes.tasks.calculation import Ratio

LABELS = ("edema", "nodule", "mass")
PHRASES = ("left nodule", "right mass")


def entry(task_name, answer, *, image_id="i0", n=0, prompt=None, kind=None, boxes=()):
    text, target_boxes = task(task_name).render(answer)
    kinds = task(task_name).PROMPTS
    kind = kind or next(iter(kinds))
    return Entry(
        f"{image_id}/{task_name}/{n}",
        image_id,
        task_name,
        prompt or kinds.get(kind, ("?",))[0],
        text,
        (*boxes, *target_boxes),
        f"fake/{task_name}/{kind}",
    )


def entries_of(image_id, rng, text=""):
    """One entry a task (two for vqa), with truths that vary from image to image; `text` goes wherever
    people's words go."""
    x, y = rng.uniform(0.1, 0.4, 2)
    box = Box(float(x), float(y), float(x + 0.3), float(y + 0.4))
    grade = int(rng.integers(4))
    labels = frozenset(label for label in LABELS if rng.random() < 0.4)
    phrase = PHRASES[int(rng.integers(2))]
    return [
        entry(
            "calculation", Ratio("CTR", round(float(rng.uniform(0.4, 0.7)), 2)), image_id=image_id, kind="ctr"
        ),
        entry("report", f"The heart is normal. There is a {phrase} of {grade} cm.{text}", image_id=image_id),
        entry("severity", grade, image_id=image_id),
        entry("findings", labels, image_id=image_id),
        entry("rec", (box,), image_id=image_id, prompt=f"Where is the {phrase}?{text}"),
        entry("reg", phrase + text, image_id=image_id, boxes=(box,)),
        entry(
            "vqa",
            "yes" if "edema" in labels else "no",
            image_id=image_id,
            prompt=f"Is there edema?{text}",
            kind="presence",
        ),
        entry("vqa", str(grade), image_id=image_id, n=1, prompt="How many?", kind=f"count{text}"),
    ]


def make_mixture(folder, *, train=30, test=12, seed=0, name="fake", train_seed=None, text=""):
    """A mixture on disk; two test images a patient. `text` is added to ids and words."""
    rng = np.random.default_rng(seed)
    images, entries = [], []
    for split, count, draw in (
        ("test", test, rng),
        ("train", train, np.random.default_rng(train_seed if train_seed is not None else seed + 1)),
    ):
        for i in range(count):
            image_id = f"{split}{i}{text}"
            path = f"images/{split}{i}.png"
            images.append(Image(image_id, f"{split}-p{i // 2}", split, "fake", path, 32, 24, "PA"))
            (folder / "images").mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 255, (24, 32), dtype=np.uint8)
            PIL.Image.fromarray(pixels, "L").save(folder / path)
            entries += entries_of(image_id, draw, text)
    meta = {
        "name": name,
        "mixture_hash": f"hash-{name}",
        "recipe": {"name": name},
        "sources": {"fake": "1"},
        "counts": counts(images, entries),
        "density": {"tasks_per_image": 7.0, "entries_per_image": 8.0},
        "rejected": 0,
        "match": None,
        "notes": [],
    }
    write_mixture(Mixture(tuple(images), tuple(entries), meta), folder)
    return folder
