"""Pseudo-annotation from a trained run to a mixture's folder: asks in rounds, filters, assembles, reports.

    out/   images.parquet  entries.parquet  mixture.json  README.md  thumbnails.parquet  images/
           answers.jsonl   every question with its answer, scores, and what it passed
           pseudo.json     the quality report

Half way, answers lie beside `out` in `.<name>.answers/`, and the same call goes on with them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.draws import draws
from data_recipes.errors import UserError
from data_recipes.pseudo import truth as truths
from data_recipes.pseudo.asking import ROUNDS, Pool, ask
from data_recipes.pseudo.assemble import Origin, assemble, place_images
from data_recipes.pseudo.choose import choose_images
from data_recipes.pseudo.filters import Answered, as_json, verdicts
from data_recipes.pseudo.leaks import check_images
from data_recipes.pseudo.rules import Context, contradictions
from data_recipes.pseudo.spec import Annotation, read_annotation
from data_recipes.recipe import mixture_folder
from data_recipes.records import Entry, Image, Mixture
from data_recipes.scene import Scene
from data_recipes.schema import read_keys
from data_recipes.staging import staged
from data_recipes.stats import PSEUDO
from data_recipes.store import META, need_pixels, read_meta, read_mixture, write_meta, write_mixture
from data_recipes.tables import write_text
from data_recipes.tasks import Written
from data_recipes.thumbnails import read_marks, write_marks
from eval import pseudo
from eval.backends import Transformers
from eval.generate import Pair, fingerprint, load_model, token_limits
from eval.quality import quality
from eval.runs import Run, read_run, write_json
from harness.lineage import refuse_taught
from harness.provenance import hash_weights
from model_adapters.registry import load_adapter

ANSWERS, REPORT = "answers.jsonl", "pseudo.json"

# Answers questions of a round.
Answerer = Callable[[int, Sequence[Pair]], list[Answered]]


@dataclass(frozen=True)
class _Job:
    """What is annotated, by whom, and where answers gather."""

    annotation: Annotation
    folder: Path
    mixture: Mixture
    images: list[Image]
    model: str
    adapter_folder: Path
    seed: int
    work: Path
    progress: bool


def annotate(
    annotation: Annotation,
    *,
    model: str,
    adapter_folder: Path,
    out: Path,
    seed: int,
    progress: bool = True,
) -> Path:
    """Builds the pseudo-mixture at `out`, whole or not at all; goes on with the answers of a call that was
    killed; returns `out`, at once where this very mixture is there.

    Args:
        model: the base model's name. adapter_folder: the run's adapter; its run.yaml beside it says what the
            run was trained on.
        seed: of the run; with `annotation.seed` it determines questions and draws.

    Raises:
        UserError: the mixture, model or adapter cannot be used, `out` holds something else, images that are
            held out would be annotated, or no answer was kept.
    """
    run = read_run(adapter_folder.parent) if (adapter_folder.parent / "run.yaml").is_file() else None
    folder = mixture_folder(annotation.mixture, progress=progress)
    mixture = read_mixture(folder)
    need_pixels(mixture, annotation.mixture)
    origin = _origin(annotation, model, adapter_folder, run)
    key = _key(annotation, mixture, origin, seed)
    if _is_built(out, key):
        return out
    images = choose_images(mixture, annotation)
    marks = read_marks(folder, mixture.images, progress=progress)
    check_images(images, marks, mixture, folder, f"mixture {annotation.mixture}")
    if annotation.labels == "model":
        others = refuse_taught(adapter_folder, f"mixture {annotation.mixture}", folder, mixture)
        for place, other in others.items():
            check_images(
                images, marks, other, place, f"mixture {place.name}, which the model has learnt from"
            )
    work = out.with_name(f".{out.name}.answers")
    job = _Job(annotation, folder, mixture, images, model, adapter_folder, seed, work, progress)
    known = truths.scenes(mixture, images, progress=progress)
    answers = _answers(job, _by_truth(job, known) if annotation.labels == "truth" else _by_model(job))
    made = assemble(mixture, images, answers, annotation, origin, marks, key=key, seed=seed)
    used = {entry.entry_id for entry in made.entries if entry.provenance.startswith(f"{PSEUDO}/")}
    report = {
        "annotation": made.meta["recipe"]["annotate"],
        "weights": origin.weights,
        "run": origin.run,
        "images": len(images),
        "truth_known": len(known),
        "density": made.meta["density"],
        "tasks": quality(
            answers,
            annotation.filters,
            used,
            _true_answers(job, answers, known),
            {image.image_id: image.patient_id for image in images},
        ),
    }
    with staged(out, "--out") as part:
        place_images(made.images, folder, part)
        write_mixture(made, part)
        write_marks(marks, made.images, part)
        passes = verdicts(answers, annotation.filters)
        lines = (
            as_json(a, passed, used=a.entry.entry_id in used)
            for a, passed in zip(answers, passes, strict=True)
        )
        write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), part / ANSWERS)
        write_json(part / REPORT, report)
        write_meta({**made.meta, PSEUDO: report["tasks"]}, part)
    shutil.rmtree(work, ignore_errors=True)
    return out


def read_settings(path: Path | None, given: Mapping[str, Any], filters: Mapping[str, Any]) -> Annotation:
    """The annotation of a YAML file, with what was given on the command line (all but None) on top.

    Raises:
        UserError: the file is missing or no YAML, or as `read_annotation`.
    """
    said: dict[str, Any] = {}
    if path is not None:
        said = read_keys(path, "an annotation")
        if not isinstance(said.get("filters", {}), dict):
            raise UserError(
                f"{path}: filters is {said['filters']!r}: give it keys and values, indented below"
            )
    chosen = {name: value for name, value in given.items() if value is not None}
    over = {name: value for name, value in filters.items() if value is not None}
    merged = said | chosen | {"filters": said.get("filters", {}) | over}
    if not merged.get("mixture"):
        raise UserError("say whose images are annotated: --mixture NAME, such as --mixture dmax")
    return read_annotation(merged, str(path) if path else "imax annotate")


def _origin(annotation: Annotation, model: str, adapter_folder: Path, run: Run | None) -> Origin:
    if annotation.labels == "truth":
        return Origin("", "truth")
    base = hash_weights(load_adapter(model).folder) or model
    trained = hash_weights(str(adapter_folder))
    if trained is None:
        raise UserError(
            f"{adapter_folder} holds no trained adapter: did the run end? `imax train` goes on with it"
        )
    return Origin(run.name if run else "", hashlib.sha256(f"{base} {trained}".encode()).hexdigest())


def _key(annotation: Annotation, mixture: Mixture, origin: Origin, seed: int) -> str:
    """SHA-256 of all that the pseudo-mixture depends on."""
    settings = annotation.model_dump() | {"mixture": mixture.meta.get("mixture_hash")}
    parts = [settings, origin.weights, origin.run, seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _is_built(out: Path, key: str) -> bool:
    if not (out / META).exists():
        return False
    if read_meta(out).get("key") == key:
        return True
    raise UserError(f"{out} holds another mixture: remove it, or name another folder with --out")


def _answers(job: _Job, answer: Answerer) -> list[Answered]:
    """All questions of all rounds with their answers, judged against each other."""
    annotation = job.annotation
    pool = Pool.of(job.mixture)
    own: dict[str, list[Entry]] = defaultdict(list)
    for image, entry in job.mixture.of_split("train"):
        own[image.image_id].append(entry)
    wanted = set(annotation.tasks or pool.prompts)
    known = {image.image_id: list(own[image.image_id]) for image in job.images}
    answers: list[Answered] = []
    for number in ROUNDS:
        pairs: list[Pair] = []
        for image in job.images:
            has = {entry.task for entry in own[image.image_id]} if annotation.keep_own else set()
            rng = _rng(job, image.image_id, number)
            questions = ask(number, image, known[image.image_id], pool, wanted - has, rng)
            pairs += [(image, question) for question in questions]
        found = answer(number, pairs) if pairs else []
        for answered in found:
            if answered.parsed:
                known[answered.entry.image_id].append(answered.entry)
        answers += found
    against: dict[str, tuple[str, ...]] = {}
    for image in job.images:
        mine = {entry.entry_id for entry in own[image.image_id]}
        context = Context(pool.labels, image.view)
        against |= contradictions(known[image.image_id], mine, context, annotation.filters.rules)
    return [replace(a, contradicted=against.get(a.entry.entry_id, ())) for a in answers]


def _rng(job: _Job, image_id: str, number: int) -> np.random.Generator:
    (place,) = draws([image_id], job.annotation.seed, "questions").tolist()
    return np.random.default_rng([job.seed, number, place])


def _by_model(job: _Job) -> Answerer:
    """The run's model answers, and what it answered stays on disk."""
    adapter = load_adapter(job.model)
    limits = token_limits(adapter, job.mixture)

    @functools.cache
    def backend() -> Transformers:
        return Transformers(load_model(adapter, job.adapter_folder), adapter)

    settings = job.annotation
    facts = [
        job.model,
        hash_weights(adapter.folder) or "",
        str(job.mixture.meta.get("mixture_hash")),
        json.dumps([limits, settings.drawn, settings.temperature, settings.seed, job.seed]),
    ]

    def answer(number: int, pairs: Sequence[Pair]) -> list[Answered]:
        asked = hashlib.sha256(repr([entry for _, entry in pairs]).encode()).hexdigest()
        rows = pseudo.ask(
            backend,
            job.folder,
            pairs,
            job.work / f"round-{number}.jsonl",
            max_new_tokens=limits,
            samples=settings.drawn,
            temperature=settings.temperature,
            seed=settings.seed + job.seed,
            fingerprint=fingerprint(*facts, asked, files=sorted(job.adapter_folder.glob("adapter_*"))),
            what=f"round {number} of {len(ROUNDS)}",
            progress=job.progress,
        )
        return [pseudo.read_answer(pair, rows[pair[1].entry_id], adapter.codec) for pair in pairs]

    return answer


def _by_truth(job: _Job, known: Mapping[str, Scene]) -> Answerer:
    """The truth answers; questions that have no true answer are not counted as asked."""
    if missing := [image for image in job.images if image.image_id not in known]:
        raise UserError(
            f"labels: truth needs images whose source knows the truth; source {missing[0].source} of image "
            f"{missing[0].image_id} does not"
        )

    def answer(number: int, pairs: Sequence[Pair]) -> list[Answered]:
        true = {entry.entry_id: _true(job, entry, known[image.image_id]) for image, entry in pairs}
        return [
            Answered(replace(entry, target=found.text, boxes=(*entry.boxes, *found.boxes)), found.text, 0.0)
            for _, entry in pairs
            if (found := true[entry.entry_id]) is not None
        ]

    return answer


def _true(job: _Job, question: Entry, scene: Scene) -> Written | None:
    (place,) = draws([question.entry_id], job.annotation.seed, "truth").tolist()
    return truths.true_answer(question, scene, np.random.default_rng([job.seed, place]))


def _true_answers(
    job: _Job, answers: Sequence[Answered], known: Mapping[str, Scene]
) -> dict[str, Written | None]:
    """The truth of each question about an image whose scene is known. For the report alone."""
    return {
        a.entry.entry_id: _true(job, replace(a.entry, boxes=a.entry.prompt_boxes), known[a.entry.image_id])
        for a in answers
        if a.entry.image_id in known
    }
