"""The pools of a Settings: found by a hash of all they depend on, or made. Runs that differ in weights,
batches or losses share them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from data_recipes.errors import UserError
from data_recipes.recipe import home
from data_recipes.staging import staged
from data_recipes.tables import write_text
from taco_probe.taco import making
from taco_probe.taco.plan import PARTS, Part, able, plan
from taco_probe.taco.pool import COLUMNS, Pool, open_pool
from taco_probe.taco.settings import Settings
from taco_probe.taco.sources import Place, check_names, check_origins, code, fingerprint, open_source

_SIZES: dict[Part, str] = {"train": "pool", "test": "test_pool", "paths": "anchors"}
_COMMON = ("size", "tasks_used", "crop", "pool_seed")
FILE = "pools.json"


def pools(
    settings: Settings,
    places: Mapping[str, Place] | None = None,
    *,
    parts: Sequence[Part] = PARTS,
    workers: int | None = None,
    quiet: bool = False,
) -> dict[Part, Path]:
    """Folders of the pools, made where they are not there yet.

    Args:
        places: of datasets of the user's, by name.
        workers: processes; by default one a core.

    Raises:
        UserError: a dataset that is not there or not usable, or of which no task can be made.
    """
    places = dict(places or {})
    check_names((*settings.datasets, *settings.held_out), places)
    check_origins(settings, places)
    if not settings.datasets:
        raise UserError("no dataset to train on: name some with --datasets, or add one with --data")
    folders = {part: folder_of(part, settings, places) for part in parts}
    if all(folder.is_dir() for folder in folders.values()):
        return folders
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    with _alone(home() / "taco" / ".lock", quiet=quiet):
        lacking = [part for part in parts if not folders[part].is_dir()]
        if lacking:
            names = _names("test" if set(lacking) != {"train"} else "train", settings)
            sets = [open_source(name, places.get(name)) for name in names]
            read = making.read_all(sets, settings, workers=workers, quiet=quiet)
            for part in lacking:
                _make(part, settings, read, folders[part], workers=workers, quiet=quiet)
    return folders


def folder_of(part: Part, settings: Settings, places: Mapping[str, Place]) -> Path:
    """Where a pool lies or would lie, named by a hash of all that it depends on."""
    content = {
        "part": part,
        "settings": {name: getattr(settings, name) for name in (*_COMMON, _SIZES[part])},
        "datasets": {name: fingerprint(name, places.get(name)) for name in _names(part, settings)},
        "trained_on": settings.datasets,
        "code": code(),
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return home() / "taco" / key


def write_places(folders: Mapping[Part, Path], run: Path) -> None:
    """Notes in a run's folder where its pools lie."""
    content = {part: str(folder.resolve()) for part, folder in folders.items()}
    write_text(json.dumps(content, indent=1) + "\n", run / FILE)


def check_places(folders: Mapping[Part, Path], run: Path) -> None:
    """Raises UserError: a run that was begun with other pools, since code or files have changed."""
    if not (run / FILE).is_file():
        return
    for part, folder in folders.items():
        if _place(run, part) != folder.resolve():
            raise UserError(
                f"{run} was trained with other instances than its settings make now: the code or the "
                "datasets' files have changed. Choose another --output_dir, or delete it"
            )


def pool_of(run: Path, part: Part) -> Pool:
    """A pool that a run was trained with or is measured on.

    Raises:
        UserError: no run there, or its pool was deleted.
    """
    folder = _place(run, part)
    if not folder.is_dir():
        raise UserError(
            f"{run}: its pool {folder} is gone; the run's command of imax taco train makes it again"
        )
    return open_pool(folder)


def _place(run: Path, part: Part) -> Path:
    try:
        return Path(json.loads((run / FILE).read_text(encoding="utf-8"))[part])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run} is no run of imax taco train: {FILE}: {error}") from None


def _make(
    part: Part,
    settings: Settings,
    read: Mapping[str, making.Read],
    folder: Path,
    *,
    workers: int,
    quiet: bool,
) -> None:
    used = {name: read[name] for name in _names(part, settings)}
    allows = {name: one.allows for name, one in used.items()}
    wanted = plan(part, settings, allows)
    if not wanted and part == "train":
        raise UserError("none of the tasks can be made of the datasets: see docs/taco.md for what they need")
    with staged(folder, "IMAX_HOME") as out:
        rows = making.make_all(wanted, used, settings, out, name=f"{part} pool", workers=workers, quiet=quiet)
        pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(out / "rows.parquet")
        lacking = [
            {"dataset": name, "task": task, "why": _why(one.allows, task)}
            for name, one in used.items()
            for task in settings.tasks_used
            if not able(part, settings, name, task, one.allows)
        ]
        content = {
            "part": part,
            **{name: getattr(settings, name) for name in (*_COMMON, _SIZES[part])},
            "instances": len(rows),
            "pairs": len({(one.dataset, one.task) for one in wanted}),
            "not_made": lacking,
            "unreadable": [text for one in used.values() for text in one.unreadable],
        }
        write_text(json.dumps(content, indent=1) + "\n", out / "pool.json")
    if not quiet:
        print(_told(content), flush=True)


def _told(content: Mapping[str, Any]) -> str:
    text = (
        f"{content['part']} pool: {content['instances']:,} instances of {content['pairs']} tasks of datasets"
    )
    reasons = Counter(one["why"] for one in content["not_made"])
    if reasons:
        most = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        text += f"; {sum(reasons.values())} cannot be made: {most}"
    if broken := content["unreadable"]:
        text += f"; {len(broken)} images left out, such as {broken[0]}"
    return text


def _why(allows: Sequence[Mapping[str, str] | None], task: str) -> str:
    """The commonest reason."""
    reasons = Counter(one[task] for one in allows if one is not None and one[task])
    return reasons.most_common(1)[0][0] if reasons else "no image is left for this part"


def _names(part: Part, settings: Settings) -> tuple[str, ...]:
    return settings.datasets if part == "train" else (*settings.datasets, *settings.held_out)


@contextmanager
def _alone(file: Path, *, quiet: bool = False) -> Iterator[None]:
    """One process at a time; the lock ends with the process. It is of the kind that forked processes do not
    inherit. The file holds the process's number, for those that wait."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            if not quiet:
                told = f"waiting for process {stream.read().strip()}, which makes pools in {file.parent}"
                print(told, file=sys.stderr, flush=True)
            fcntl.lockf(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
