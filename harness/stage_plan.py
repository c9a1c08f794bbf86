"""What the stages of a run will be, fixed before the first begins: steps, learning rate, where each starts.

Steps are known ahead, those of a stage on a mixture that is yet to be annotated too: the images to annotate
are. So shares of the whole run mean something from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import UserError
from data_recipes.joining import join
from data_recipes.pseudo.choose import choose_images
from data_recipes.records import Mixture
from data_recipes.staged import BASE, PREVIOUS, Stage, Staged
from data_recipes.tasks import TASKS
from harness.config import Settings, derive
from harness.lengths import budget_steps, steps_of_epoch
from taco_probe.dynamics.schedule import steps_of

FOLDER = "stages"  # of the stages, in the run folder
Mixtures = Mapping[str, tuple[Path, Mixture]]  # name in the recipe -> folder and content


@dataclass(frozen=True)
class Planned:
    """A stage of a run.

    Attributes:
        number: counted from 1.
        folder: its run folder.
        steps: how many it takes; `before`: how many the stages before it take together.
        learning_rate: at its highest; where one schedule goes through all stages, that of the schedule.
        schedule: steps of that schedule; 0 where the stage has one of its own.
        start: run or adapter folder whose weights it starts from; None is the base model.
    """

    number: int
    stage: Stage
    folder: Path
    steps: int
    before: int
    learning_rate: float
    schedule: int
    start: str | None

    @property
    def made(self) -> Path:
        """Where the mixture of a stage that annotates lies."""
        return self.folder / "mixture"

    @property
    def recipe(self) -> str:
        """What it trains on, as `--recipe` takes it."""
        return str(self.made) if self.stage.annotate else str(self.stage.mixture)

    def watched(self, said: str, total: int) -> list[int]:
        """The own steps at which to measure, of `--dynamics_steps` of the whole run with so many steps."""
        ahead = [step - self.before for step in steps_of(said, total)]
        return [step for step in ahead if 0 < step <= self.steps or (step == 0 and self.number == 1)]

    def settings(self, whole: Settings, total: int, probed: str) -> Settings:
        """Those of the whole run of `total` steps, with what the stage says; `probed` is the mixture that
        probe entries come from unless the user names one."""
        watched = self.watched(whole.dynamics.dynamics_steps, total)
        seed = whole.training.seed if whole.training.data_seed is None else whole.training.data_seed
        return derive(
            whole,
            {
                **_without_length(whole),
                "recipe": self.recipe,
                "mix": self.stage.mix or None,
                "output_dir": str(self.folder),
                "batching": _batching(self.stage, whole),
                "max_steps": self.steps,
                "learning_rate": self.learning_rate,
                "schedule_steps": self.schedule or None,
                "schedule_before": self.before if self.schedule else None,
                "start": self.start,
                # A later stage on the same entries sees them in another order.
                "data_seed": whole.chosen.get("data_seed") if self.number == 1 else seed + self.number - 1,
                "dynamics_steps": ",".join(map(str, watched)) or None,
                "dynamics_mixture": whole.dynamics.dynamics_mixture or probed,
            },
        )


class _Length(NamedTuple):
    """Steps of a pass, and how many passes or steps; `steps` counts where it is not None."""

    of_epoch: int
    epochs: float
    steps: int | None

    def times(self, factor: float) -> int:
        if self.steps is not None:
            return max(1, round(self.steps * factor))
        # Rounded first: 1.5 * (1 / 1.5) is a hair more than 1, and no step more than a pass.
        return math.ceil(round(self.epochs * factor * self.of_epoch, 6))


def plan(staged: Staged, settings: Settings, run: Path, mixtures: Mixtures) -> list[Planned]:
    """The stages of a run in `run`.

    `--max_steps` is shared out over the stages in proportion to their own lengths; `--learning_rate` is that
    of the first stage, and later ones keep their proportion to it. So it is with `--num_train_epochs`, but
    that stages with shares are together as long as a plain run of so many epochs on the first mixture.

    Raises:
        UserError: `--max_steps` is less than a step for each stage.
    """
    free = derive(settings, _without_length(settings))
    lengths = [_length(stage, free, mixtures) for stage in staged.stages]
    shares = [stage.share for stage in staged.stages if stage.share is not None]
    steps = _steps(lengths, settings.chosen, shares)
    own_rate = free.training.learning_rate
    rates = [s.learning_rate or own_rate * (s.learning_rate_times or 1.0) for s in staged.stages]
    faster = settings.chosen.get("learning_rate", rates[0]) / rates[0]
    found: list[Planned] = []
    for number, stage in enumerate(staged.stages, start=1):
        found.append(
            Planned(
                number=number,
                stage=stage,
                folder=run / FOLDER / f"{number}-{stage.name}",
                steps=steps[number - 1],
                before=sum(steps[: number - 1]),
                learning_rate=float(f"{rates[number - 1] * faster:.12g}"),
                schedule=sum(steps) if staged.schedule == "whole" else 0,
                start=_start(stage, found, settings),
            )
        )
    return found


def described(one: Planned, mixtures: Mixtures) -> dict[str, Any]:
    """A stage as run.yaml keeps it: what was planned, the same for every seed."""
    made = one.stage.annotate
    return {
        "name": one.stage.name,
        "annotates" if made else "mixture": str(mixtures[one.stage.source][1].meta.get("name")),
        "mixture_hash": mixtures[one.stage.source][1].meta.get("mixture_hash"),
        "mix_hashes": [mixtures[name][1].meta.get("mixture_hash") for name in one.stage.mix],
        "start": one.stage.start or (PREVIOUS if one.number > 1 else BASE),
        "steps": one.steps,
        "learning_rate": one.learning_rate,
    }


def _without_length(settings: Settings) -> dict[str, None]:
    names = ("max_steps", "num_train_epochs", "learning_rate", "overwrite", "stage_cache")
    return dict.fromkeys(names)


def _batching(stage: Stage, settings: Settings) -> str | None:
    return settings.chosen.get("batching") or stage.batching or ("image" if stage.annotate else None)


def _start(stage: Stage, before: Sequence[Planned], settings: Settings) -> str | None:
    name = stage.start or (PREVIOUS if before else BASE)
    if name == BASE:
        return settings.model.start
    if name == PREVIOUS:
        return str(before[-1].folder)
    return next(str(other.folder) for other in before if other.stage.name == name)


def _length(stage: Stage, free: Settings, mixtures: Mixtures) -> _Length:
    own = derive(free, {"recipe": stage.source, "mix": None, "batching": _batching(stage, free)})
    of_epoch = steps_of_epoch(_samples(stage, own, mixtures), own.training)
    steps = stage.steps
    if stage.epochs is None and steps is None and stage.mixture:
        steps = budget_steps(own, mixtures[stage.source][1])
    return _Length(of_epoch, stage.epochs or own.training.num_train_epochs, steps)


def _samples(stage: Stage, own: Settings, mixtures: Mixtures) -> int:
    """Training samples; of a mixture that is yet to be annotated as many as its density says."""
    wanted = frozenset(own.data.tasks or TASKS)
    source = mixtures[stage.source][1]
    others = [mixtures[name] for name in stage.mix]
    by_image = own.data.batching == "image"
    if stage.annotate is None:
        pairs = [pair for pair in join(source, others).mixture.of_split("train") if pair[1].task in wanted]
        return len({image.image_id for image, _ in pairs}) if by_image else len(pairs)
    chosen = {image.image_id for image in choose_images(source, stage.annotate)}
    own_stay = chosen if stage.annotate.keep_own else set()  # their own entries are there already
    added = [
        image.image_id
        for _, other in others
        for image, entry in other.of_split("train")
        if entry.task in wanted and image.image_id not in own_stay
    ]
    if by_image:
        return len(chosen.union(added))
    return round(len(chosen) * stage.annotate.density.entries_per_image) + len(added)


def _steps(lengths: Sequence[_Length], chosen: Mapping[str, Any], shares: Sequence[float]) -> list[int]:
    """Steps of each stage; `shares` is empty where stages have lengths of their own."""
    first, total = lengths[0], chosen.get("max_steps") or -1
    if total <= 0:
        epochs = first.epochs if first.steps is None or shares else first.steps / first.of_epoch
        factor = chosen.get("num_train_epochs", epochs) / epochs
        if not shares:
            return [one.times(factor) for one in lengths]
        total = max(len(lengths), first.times(factor))
    elif total < len(lengths):
        raise UserError(f"--max_steps {total} is for the whole run, and it has {len(lengths)} stages")
    weights = shares or [one.times(1.0) for one in lengths]
    spare = total - len(lengths)  # a step for each stage, and the rest in proportion
    edges = [round(spare * sum(weights[:n]) / sum(weights)) for n in range(len(weights) + 1)]
    return [1 + after - before for before, after in pairwise(edges)]
