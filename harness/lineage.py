"""What the weights of a run have learnt from: its own mixture, those mixed in, those of its stages, and all
of the run that it started from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_recipes.errors import UserError
from data_recipes.joining import refuse_leaks
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.store import read_mixture
from eval.plan import trained_on
from eval.runs import read_run
from harness.processes import say
from harness.runs import RunFolder
from harness.stage_plan import FOLDER


def learnt_from(weights: Path, *, progress: bool = True) -> dict[Path, str]:
    """Folders of mixtures, each with the name to call it by.

    Args:
        weights: a run folder or an adapter folder. Of an adapter without a run beside it nothing is known.

    Raises:
        UserError: a mixture is gone, and its recipe now gives another one.
    """
    found: dict[Path, str] = {}
    for folder in _runs(weights, set()):
        run, settings = read_run(folder), RunFolder(folder).settings()
        places = [trained_on(run, progress=progress)]
        for name, digest in zip(settings.get("mix") or (), settings.get("mix_hashes") or (), strict=False):
            places.append(mixture_folder(str(name), progress=progress))
            if read_mixture(places[-1]).meta.get("mixture_hash") != digest:
                raise UserError(f"{folder}: its mixture {name} is gone, and the name now means another")
        for place in places:
            found.setdefault(place.resolve(), f"the mixture {place.name} of run {run.name}")
    return found


def refuse_taught(
    weights: Path, name: str, folder: Path, mixture: Mixture, *, lenient: bool = False
) -> dict[Path, Mixture]:
    """Lets nobody be held out in `mixture` (called `name`, in `folder`) who was trained on for these weights,
    nor the other way round. Returns the other mixtures, by folder.

    Args:
        lenient: weights whose mixtures are gone pass, with a word.

    Raises:
        UserError: somebody is; or as `learnt_from`, unless lenient.
    """
    others = {}
    try:
        known = learnt_from(weights)
    except UserError as error:
        if not lenient:
            raise
        say(f"what {weights} has learnt from is not checked for leakage: {error}")
        return {}
    for place, called in known.items():
        if place != folder.resolve():
            others[place] = read_mixture(place)
            refuse_leaks([(name, mixture), (called, others[place])])
    return others


def _runs(weights: Path, known: set[Path]) -> Iterator[Path]:
    """Run folders: that of these weights, its stages, and those of the weights it started from."""
    folder = next((f for f in (weights, weights.parent) if (f / "run.yaml").is_file()), None)
    if folder is None or folder.resolve() in known:
        return
    known.add(folder.resolve())
    yield folder
    for stage in sorted((folder / FOLDER).glob("*/run.yaml")):
        yield from _runs(stage.parent, known)
    if start := RunFolder(folder).settings().get("start"):
        yield from _runs(Path(start), known)
