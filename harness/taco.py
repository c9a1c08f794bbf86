"""Trains the encoders that a TaCo analysis compares: variants of the same settings, each under several
seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError, unknown
from harness.processes import use_threads
from harness.provenance import Diary, machine
from harness.runs import RunFolder, first_difference
from taco_probe.taco.pool import open_pool
from taco_probe.taco.pools import check_places, pools, write_places
from taco_probe.taco.settings import Settings, read_settings, write_settings
from taco_probe.taco.sources import Place, with_datasets
from taco_probe.taco.training import SETTINGS, WEIGHTS, processes, train

# What each variant changes: the effect of failure tasks, and the controls.
VARIANTS: dict[str, dict[str, Any]] = {
    "main": {},
    "no_failures": {"failures": "none"},
    "input": {"view": "input"},
    "target": {"view": "target"},
    "shuffled": {"view": "shuffled"},
}
CONTROLS = ("input", "target", "shuffled")


def train_all(
    settings: Settings,
    out: Path,
    *,
    seeds: Sequence[int],
    variants: Sequence[str],
    control_seeds: Sequence[int] = (),
    places: Mapping[str, Place],
    argv: Sequence[str],
    save_steps: int = 100,
    threads: int = 0,
) -> list[Path]:
    """Trains each variant under each seed into OUT/<variant>-s<seed>/; finished ones stay as they are, and
    what was killed goes on.

    Args:
        control_seeds: of the controls; by default as the others.
        places: of datasets of the user's, by name.
        argv: the command line, for provenance.
        threads: that torch uses in each process; 0 shares the cores among them.

    Returns:
        The runs, in order.

    Raises:
        UserError: an unknown variant, a folder that holds something else, or a mistake in the settings.
    """
    for name in variants:
        if name not in VARIANTS:
            raise unknown("variant", name, VARIANTS)
    settings = with_datasets(settings, places)
    seeds_of = {name: control_seeds if name in CONTROLS and control_seeds else seeds for name in variants}
    chosen = {
        out / f"{name}-s{seed}": settings.model_copy(update={**VARIANTS[name], "seed": seed})
        for seed in dict.fromkeys((*seeds, *control_seeds))  # seeds outside: half of it is a whole comparison
        for name in variants
        if seed in seeds_of[name]
    }
    if not chosen:
        raise UserError("nothing to train: name --variants and --seeds")
    for run, own in chosen.items():
        _claim(run, own)
    job = processes()
    with job.main_process_first():
        folders = pools(settings, places, quiet=not job.is_main_process)
    for run in chosen:
        check_places(folders, run)
    use_threads(threads)
    pool = open_pool(folders["train"]).in_memory()
    for number, (run, own) in enumerate(chosen.items(), start=1):
        name = f"{number}/{len(chosen)} {run.name}"
        if (run / WEIGHTS).is_file():
            job.print(f"{name}: finished already")
            continue
        facts = {"machine": machine(job.device)}
        step = _last_step(run)
        job.wait_for_everyone()
        if job.is_main_process:
            run.mkdir(parents=True, exist_ok=True)
            write_settings(own, run / SETTINGS)
            write_places(folders, run)
        job.wait_for_everyone()
        diary = Diary(
            RunFolder(run), facts, argv=argv, program="imax taco train", step=step, begin=job.is_main_process
        )
        train(own, pool, run, save_steps=save_steps, on_save=diary.note, name=name)
        if job.is_main_process:
            diary.note(own.steps, finished=True)
    return list(chosen)


def _claim(run: Path, settings: Settings) -> None:
    """Raises UserError: the folder holds another run, or something else."""
    if (run / SETTINGS).is_file():
        there, here = (one.model_dump(mode="json") for one in (read_settings(run / SETTINGS), settings))
        if difference := first_difference(there, here):
            key, old, new = difference
            raise UserError(
                f"{run} holds a run with other settings: {key} is {old!r} there, {new!r} here. "
                "Choose another --output_dir"
            )
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"{run} is there and holds no run of imax taco train: choose another --output_dir")


def _last_step(run: Path) -> int:
    """Of the log: how far a run that was killed had come."""
    return max((int(line["step"]) for line in RunFolder(run).log()), default=0)
