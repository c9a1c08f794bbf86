"""Runs a recipe with stages: each stage is an ordinary run in `stages/<n>-<name>/`, and the whole is one too.

A killed job goes on with the same command: finished stages are found and passed over, the one it was in goes
on from its checkpoint, or from the answers it had.
"""

from __future__ import annotations

import datetime
import gc
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from data_recipes.errors import UserError
from data_recipes.joining import refuse_leaks
from data_recipes.recipe import mixture_folder
from data_recipes.staged import load_staged
from data_recipes.store import META, need_pixels, read_meta, read_mixture
from harness import be_quiet, provenance, stage_outcome
from harness.config import Settings, as_dict
from harness.processes import is_main, say, use_threads, wait, wait_for
from harness.runs import RunFolder
from harness.stage_cache import StageCache, key
from harness.stage_plan import Mixtures, Planned, described, plan
from harness.start import adapter_folder
from model_adapters.registry import load_adapter


class Train(Protocol):
    """`harness.train.train`, which is a script's and comes from there."""

    def __call__(self, settings: Settings, arguments: Sequence[str], stage: str) -> RunFolder: ...


def run(settings: Settings, arguments: Sequence[str], train: Train) -> RunFolder:
    """The whole job: from settings, whose recipe has stages, to a finished run folder.

    Raises:
        UserError: as `train` for a stage, or a patient who is held out in one mixture is trained on in
            another.
    """
    be_quiet()
    use_threads(settings.data.threads)
    training = settings.training
    staged = load_staged(settings.data.recipe)
    if is_deepspeed_zero3_enabled() and any(stage.annotate for stage in staged.stages):
        raise UserError(
            "annotation needs whole weights, and DeepSpeed's stage 3 spreads them: use its stage 2"
        )
    adapter = load_adapter(settings.model.model)
    with training.main_process_first(desc="build the mixtures"):
        places = {name: mixture_folder(name, progress=is_main()) for name in staged.mixtures}
        mixtures = {name: (folder, read_mixture(folder)) for name, folder in places.items()}
    for name, (_, mixture) in mixtures.items():
        need_pixels(mixture, name)
    refuse_leaks([(name, mixture) for name, (_, mixture) in mixtures.items()])

    whole = RunFolder(Path(training.output_dir))
    planned = plan(staged, settings, whole.path, mixtures)
    folder, clean = mixtures[staged.clean.source]
    facts = {
        "mixture": str(folder.resolve()),
        "mixture_hash": clean.meta["mixture_hash"],
        "model_hash": provenance.hash_weights(adapter.folder),
        "world_size": training.world_size,
        "recipe_hash": staged.digest,
    }
    if settings.model.start is not None:
        facts["start_hash"] = provenance.hash_weights(str(adapter_folder(settings.model.start)))
    stages = {"stages": [described(one, mixtures) for one in planned]}
    with training.main_process_first(desc="claim the run folder"):
        if is_main():
            whole.claim(as_dict(settings) | stages | facts, overwrite=settings.data.overwrite)
    if whole.finished():
        say(f"{whole.path} is finished: nothing to do (--overwrite starts anew)")
        return whole
    job = _Job(settings, arguments, train, planned, mixtures, facts, seed=staged.seed, whole=whole)
    say(f"{whole.path}: {staged.name}, {len(planned)} stages, {job.total} steps together")
    for one in planned:
        say(f"  {in_words(one)}")
    if is_main():
        stage_outcome.join_logs(whole, planned)  # a torn end goes
    wait()
    job.go(staged.stages[0].source)
    return whole


def in_words(one: Planned) -> str:
    """What a stage does, in a line."""
    stage = one.stage
    source, *others = (re.sub(r"\.ya?ml$", "", Path(name).name) for name in (stage.source, *stage.mix))
    what = f"trains on {' and '.join([source, *others])}"
    if stage.annotate:
        asked = "the truth where it is known" if stage.annotate.labels == "truth" else "the model before it"
        what = f"annotates {source} by {asked}, trains on {' and '.join(['that', *others])}"
    start = f"from {Path(one.start).name}" if one.start else "from the base model"
    return (
        f"{one.number} {stage.name}: {what}; {one.steps} steps {start}, learning rate {one.learning_rate:g}"
    )


class _Job:
    """The stages of a run, one after another."""

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        train: Train,
        planned: Sequence[Planned],
        mixtures: Mixtures,
        facts: dict[str, Any],
        *,
        seed: int,
        whole: RunFolder,
    ) -> None:
        self._settings, self._arguments, self._train = settings, arguments, train
        self._planned, self._mixtures, self._facts = planned, mixtures, facts
        self._seed, self._whole = seed, whole
        self._cache = StageCache(settings.data.stage_cache)
        self.total = sum(one.steps for one in planned)

    def go(self, probed: str) -> None:
        """Does what is left to do; `probed` is the mixture that probe entries come from."""
        told = {stage["name"]: stage for stage in self._whole.provenance().get("stages", [])}
        done = [one for one in self._planned if RunFolder(one.folder).finished()]
        first = max((one.before + one.steps for one in done), default=0)
        diary = self._diary(first) if is_main() else None

        def note(one: Planned, step: int, *, finished: bool = False) -> None:
            assert diary
            known = [told[other.stage.name] for other in self._planned[: one.number]]
            diary.add(stages=known)
            diary.note(step, finished=finished, seconds=stage_outcome.seconds(known))

        for one in self._planned:
            title = f"stage {one.number} of {len(self._planned)}, {one.stage.name}"
            run = RunFolder(one.folder)
            finished = run.finished()
            wait()  # nobody changes that before all have looked
            if finished:
                say(f"{title}: finished before")
            else:
                seconds = self._annotate(one, title) if one.stage.annotate else None
                if diary is not None and seconds is not None:
                    told[one.stage.name] = {"name": one.stage.name, "annotation_seconds": seconds}
                    note(one, one.before)
                self._fit(one, run, title, probed)
            if diary is not None:
                source = self._mixtures[one.stage.source][1]
                told[one.stage.name] = stage_outcome.facts(one, told.get(one.stage.name, {}), source)
                stage_outcome.join(self._whole, self._planned[: one.number], self.total, self._settings)
                note(one, one.before + one.steps)
                self._say_left(one)
        if diary is not None:
            last = self._planned[-1]
            stage_outcome.copy_adapter(RunFolder(last.folder).adapter, self._whole.path)
            diary.add(**stage_outcome.last_facts(last))
            note(last, self.total, finished=True)
            stage_outcome.summarise(self._whole)
        wait()

    def _diary(self, step: int) -> provenance.Diary:
        training = self._settings.training
        seeds = {"seed": training.seed, "data_seed": training.data_seed}
        machine = {"machine": provenance.machine(training.device)}
        facts = self._facts | seeds | machine
        return provenance.Diary(self._whole, facts, argv=self._arguments, step=step, begin=False)

    def _annotate(self, one: Planned, title: str) -> float | None:
        """Makes the mixture of a stage; how long that took, None where it was there, and off the main
        process."""
        assert one.stage.annotate
        model = RunFolder(self._planned[one.number - 2].folder).adapter
        made, seconds = (one.made / META).exists(), None
        wait()  # nobody makes it before all have looked
        if not made and is_main():
            name = self._annotation_key(one, model)
            seconds = self._cache.take_mixture(name, one.made)
            if seconds is not None:
                say(f"{title}: its mixture is taken from {self._settings.data.stage_cache}")
            else:
                say(f"{title}: annotates {Path(one.stage.source).name}")
                begun = time.monotonic()
                one.folder.mkdir(parents=True, exist_ok=True)
                self._ask(one, model)
                seconds = round(time.monotonic() - begun, 1)
                self._cache.keep_mixture(name, one.made, seconds)
        wait_for(one.made / META)
        mixture = read_mixture(one.made)
        others = [(name, other) for name, (_, other) in self._mixtures.items()]
        refuse_leaks([(f"the mixture of stage {one.stage.name}", mixture), *others])
        return seconds

    def _ask(self, one: Planned, model: Path) -> None:
        from harness.annotate import annotate  # brings the whole of generation along

        assert one.stage.annotate
        annotate(
            one.stage.annotate,
            model=self._settings.model.model,
            adapter_folder=model,
            out=one.made,
            seed=self._drawn_by,
            progress=True,
        )

    @property
    def _drawn_by(self) -> int:
        """The seed of annotation: another one for every seed of the run and of the recipe."""
        return self._seed * 1_000_003 + int(self._settings.training.seed)

    def _annotation_key(self, one: Planned, model: Path) -> str:
        assert one.stage.annotate
        facts = {
            "annotation": one.stage.annotate.model_dump(exclude={"mixture"}),
            "annotated": self._mixtures[one.stage.source][1].meta["mixture_hash"],
            "model": self._facts["model_hash"] or self._settings.model.model,
            "adapter": provenance.hash_weights(str(model)),
            "seed": self._drawn_by,
            "device": self._settings.training.device.type,
        }
        return key("mixture", facts)

    def _fit(self, one: Planned, run: RunFolder, title: str, probed: str) -> None:
        """Trains a stage, or takes it from the cache."""
        settings = one.settings(self._settings, self.total, probed)
        name = self._key(one, settings) if is_main() else ""
        if is_main():
            place = {"mixture": str(self._folder(one).resolve())}
            self._cache.take_run(name, run, as_dict(settings) | place)
        wait()
        if run.finished():
            say(f"{title}: taken from {self._settings.data.stage_cache}")
            return
        say(f"{title}: {one.steps} steps")
        self._train(settings, self._arguments, f"stage {one.number}/{len(self._planned)}")
        gc.collect()  # trainer, model and optimizer hold each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        wait()  # the main process may still be saving
        if is_main():
            self._cache.keep_run(name, run)

    def _folder(self, one: Planned) -> Path:
        return one.made if one.stage.annotate else self._mixtures[one.stage.source][0]

    def _key(self, one: Planned, settings: Settings) -> str:
        """The name under which the cache keeps a stage: settings, and hashes in place of paths."""
        said = as_dict(settings)
        facts = {name: said[name] for name in said if name not in ("model", "dynamics_mixture")}
        probed = settings.dynamics.dynamics_mixture if settings.dynamics.dynamics_steps else None
        facts |= {
            "trained_on": read_meta(self._folder(one))["mixture_hash"],
            "mixed_with": [self._mixtures[name][1].meta["mixture_hash"] for name in one.stage.mix],
            "weights": self._facts["model_hash"] or settings.model.model,
            "started_from": provenance.hash_weights(str(adapter_folder(one.start))) if one.start else None,
            "probed": read_meta(mixture_folder(probed, progress=False))["mixture_hash"] if probed else None,
            "processes": settings.training.world_size,
            "device": settings.training.device.type,
        }
        return key("stage", facts)

    def _say_left(self, one: Planned) -> None:
        """How much training is left, by the speed so far; stages differ, so this is about."""
        if left := self.total - one.before - one.steps:
            runs = [RunFolder(other.folder) for other in self._planned[: one.number]]
            each = sum(run.provenance()["wall_seconds"] for run in runs) / (one.before + one.steps)
            rest = datetime.timedelta(seconds=round(each * left))
            ended = f"stage {one.number} of {len(self._planned)} is done"
            say(f"{ended}; {left} steps are left, about {rest} of training")
