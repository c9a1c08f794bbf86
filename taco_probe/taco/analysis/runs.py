"""Finished runs: read, checked for being comparable, put into variants, embedded once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from taco_probe.taco.embed import embed
from taco_probe.taco.embeddings import Embeddings, open_embeddings
from taco_probe.taco.plan import Part
from taco_probe.taco.pool import Pool
from taco_probe.taco.pools import FILE as POOLS
from taco_probe.taco.pools import pool_of
from taco_probe.taco.settings import Settings, read_settings
from taco_probe.taco.training import SETTINGS, WEIGHTS

_FOLDER = "embeddings"


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    settings: Settings

    @property
    def seed(self) -> int:
        return self.settings.seed

    def pool(self, part: Part) -> Pool:
        """The pool that it is measured on."""
        return pool_of(self.folder, part)

    def embedded(self, part: Part, *, quiet: bool = True) -> Embeddings:
        """Its embeddings of a pool; computed once for these weights and this pool."""
        made_of = {"encoder": digest(self.folder / WEIGHTS), "pool": pool_name(self.folder, part)}
        return self.kept(part, made_of, lambda: embed(self.folder, self.pool(part), quiet=quiet))

    def kept(self, name: str, made_of: dict[str, str], make: Callable[[], Embeddings]) -> Embeddings:
        """Embeddings that lie beside the run, or are made and laid there.

        Args:
            made_of: all that they depend on; others of the same name are replaced.
        """
        folder = self.folder / _FOLDER
        note = folder / f"{name}.json"
        try:
            fresh = json.loads(note.read_text(encoding="utf-8")) == made_of
        except (OSError, ValueError):
            fresh = False
        if fresh:
            try:
                return open_embeddings(folder, name)
            except UserError:  # cut short: made again
                pass
        note.unlink(missing_ok=True)
        found = make()
        found.save(folder, name)
        write_text(json.dumps(made_of, indent=1) + "\n", note)
        return found


def digest(file: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: it is not there.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: is the run finished? {error.strerror}") from None


def pool_name(run: Path, part: Part) -> str:
    """Where a pool of a run lies; pools are named by all they depend on."""
    pool_of(run, part)
    return str(json.loads((run / POOLS).read_text(encoding="utf-8"))[part])


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Finished runs that are measured on the same instances.

    Raises:
        UserError: a folder is no run or is named twice, or runs differ in datasets or in the instances
            they are measured on.
    """
    if not folders:
        raise UserError("no run to analyse: name at least one folder of imax taco train")
    runs = [Run(folder, read_settings(folder / SETTINGS)) for folder in folders]
    paths = [folder.resolve() for folder in folders]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UserError(f"{twice} is named twice")
    first = runs[0]
    if not first.settings.held_out:
        raise UserError(f"{first.folder} held no dataset out: nothing can be said of datasets never seen")
    for run in runs[1:]:
        for name in ("datasets", "held_out", "tasks_used"):
            if sorted(getattr(run.settings, name)) != sorted(getattr(first.settings, name)):
                raise UserError(f"{run.folder} and {first.folder} differ in {name}: analyse them apart")
        if pool_name(run.folder, "test") != pool_name(first.folder, "test"):
            raise UserError(
                f"{run.folder} and {first.folder} are measured on other instances: analyse them apart"
            )
    return runs


def variants(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seed only, by view and failures such as "both+negatives"; what else variants
    of one name differ in stands behind. The main one comes first.

    Raises:
        UserError: a seed comes twice in a variant.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_setting(run), []).append(run)
    named: dict[str, list[Run]] = {}
    for mine in groups.values():
        seeds = [run.seed for run in mine]
        if twice := next((seed for seed in seeds if seeds.count(seed) > 1), None):
            same = [run.folder for run in mine if run.seed == twice]
            raise UserError(f"{same[0]} and {same[1]} are one setting with one seed: leave one out")
        alike = [group[0] for group in groups.values() if _name(group[0]) == _name(mine[0])]
        named[_name(mine[0]) + _differences(mine[0], alike)] = sorted(mine, key=lambda run: run.seed)
    return dict(sorted(named.items(), key=lambda item: _rank(item[1][0].settings)))


def _setting(run: Run) -> str:
    return json.dumps(_compared(run), sort_keys=True)


def _compared(run: Run) -> dict[str, Any]:
    kept = run.settings.model_dump(mode="json", exclude={"seed"})
    if run.settings.failures == "none":  # then their share says nothing
        del kept["failure_share"]
    return kept


def _name(run: Run) -> str:
    return f"{run.settings.view}+{run.settings.failures}"


def _differences(run: Run, alike: Sequence[Run]) -> str:
    shown = [_compared(other) for other in alike]
    mine = _compared(run)
    return "".join(
        f" {name}={mine[name]}" for name in mine if any(other[name] != mine[name] for other in shown)
    )


def _rank(settings: Settings) -> tuple[int, int]:
    """The order of variants: TaCo itself, failures as by default first; then controls."""
    views, failures = ("both", "shuffled", "target", "input"), ("negatives", "classes", "none")
    return views.index(settings.view), failures.index(settings.failures)


def partner(settings: Settings, others: dict[str, Settings], **changed: Any) -> str | None:
    """The name of the variant that differs in these settings only."""
    wanted = settings.model_copy(update={"seed": 0, **changed})
    for name, other in others.items():
        if _compared(Run(Path(), other.model_copy(update={"seed": 0}))) == _compared(Run(Path(), wanted)):
            return name
    return None
