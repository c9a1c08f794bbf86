"""What tests of stages share: two mixtures of random images, a recipe with three stages on them, and a
stand-in for annotation that answers without a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from data_recipes.pseudo.choose import choose_images
from data_recipes.pseudo.spec import Annotation
from data_recipes.records import Entry, Mixture
from data_recipes.store import content_hash, read_mixture, write_mixture
from tests.harness.conftest import make_mixture

FLAGS = [
    *("--logging_steps", "2", "--save_steps", "2", "--threads", "1", "--lora_dropout", "0.1"),
    *("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"),
]
ASKED = {"mixture": "first", "images": 6}
THREE: list[dict[str, Any]] = [
    {"name": "clean", "mixture": "first", "steps": 4},
    {"name": "pseudo", "annotate": ASKED, "steps": 3, "learning_rate_times": 0.25},
    {"name": "last", "mixture": "first", "steps": 2, "learning_rate": 1.0e-3},
]


def make_two(folder: Path) -> None:
    """Mixtures `first` and `second`, of other patients."""
    make_mixture(folder / "first", images=10, entries_each=lambda image: 7)
    make_mixture(folder / "second", images=8, entries_each=lambda image: 3, seed=1, prefix="second")


def write_recipe(folder: Path, stages: list[dict[str, Any]], name: str = "three", **keys: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"style": "staged", "stages": stages, **keys}, sort_keys=False))
    return path


def answering(mixture: Mixture, annotation: Annotation, seed: int, adapter: Path) -> Mixture:
    """The chosen images with their own entries and an answer each that hangs on seed and adapter."""
    images = choose_images(mixture, annotation)
    ids = {image.image_id for image in images}
    own = [entry for entry in mixture.entries if entry.image_id in ids]
    said = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).digest()[0] + seed
    new = [
        Entry(f"{i.image_id}/pseudo", i.image_id, "vqa", "Is there edema?", "yes" if said % 2 else "no",
              provenance="pseudo/vqa/presence")
        for i in images
    ]  # fmt: skip
    return Mixture(tuple(images), (*own, *new), {"name": "pseudo", "recipe": {}})


def stand_in(places: dict[str, Path], *, wait: float = 0.0) -> Callable[..., Path]:
    """What `harness.annotate.annotate` does, without a model; it goes on after a kill. Writes how many images
    it asked about into `<out>.asked`, a line each."""

    def annotate(
        annotation: Annotation,
        *,
        model: str,
        adapter_folder: Path,
        out: Path,
        seed: int,
        progress: bool = True,
    ) -> Path:
        source = Path(places.get(annotation.mixture, annotation.mixture))
        mixture = answering(read_mixture(source), annotation, seed, adapter_folder)
        asked = out.with_name("mixture.asked")
        for image in mixture.images[len(asked.read_text().splitlines()) if asked.exists() else 0 :]:
            time.sleep(wait)
            with asked.open("a") as stream:
                stream.write(f"{image.image_id}\n")
        partial = out.with_name("mixture.partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "images").mkdir(parents=True)
        for image in mixture.images:
            shutil.copyfile(source / image.path, partial / image.path)
        digests = {image.image_id: "" for image in mixture.images}
        meta = {**mixture.meta, "mixture_hash": content_hash(mixture.images, mixture.entries, digests)}
        write_mixture(replace(mixture, meta=meta), partial)
        (partial / "pseudo.json").write_text(json.dumps({"images": len(mixture.images)}))
        partial.replace(out)
        return out

    return annotate
