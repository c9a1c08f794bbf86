"""Runs what a study lacks, one run after another or several at a time; told how long it will take.

The driver only starts workers (`imax study run STUDY --only RUN`) and looks at files: when it is killed, its
workers go on, and the next driver waits for them instead of starting their runs again.
"""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from data_recipes.errors import UserError
from data_recipes.recipe import mixture_folder
from harness.study.locks import lock
from harness.study.planning import Plan, Run
from harness.study.state import (
    DONE,
    FAILED,
    RUNNING,
    State,
    last_line,
    log_file,
    seconds,
    state_of,
    worked_on,
)
from harness.study.work import BUSY, ROOT

_LOOK = 0.5  # seconds between looks at what runs
_TELL = 60.0  # seconds between lines about what runs


def drive(plan: Plan, spec: str, *, jobs: int = 0, say: Callable[[str], None]) -> dict[str, State]:
    """Brings every run of the plan to its end, as far as none fails; returns their states.

    Args:
        spec: the study as the user named it, for the workers.
        jobs: runs at a time; 0 for what the study says.

    Raises:
        UserError: another driver works on this study.
    """
    with lock(plan.folder / ".lock") as own:
        if own is None:
            raise UserError(f"another process works on this study ({plan.folder}): see imax study plan")
        return _Driver(plan, spec, jobs or plan.study.jobs, say).run()


class _Driver:
    """One call of `drive`."""

    def __init__(self, plan: Plan, spec: str, jobs: int, say: Callable[[str], None]) -> None:
        self._plan, self._spec, self._jobs, self._say = plan, spec, jobs, say
        states = {run.name: state_of(plan, run) for run in plan.runs}
        self._todo = [run for run in plan.runs if states[run.name].kind != DONE]
        self._working: dict[str, tuple[Run, subprocess.Popen[bytes]]] = {}
        self._failed: dict[str, State] = {}
        self._begun = self._told = time.monotonic()

    def run(self) -> dict[str, State]:
        total, done = len(self._plan.runs), len(self._plan.runs) - len(self._todo)
        self._say(
            f"{self._plan.study.name}: {total} runs, {done} done before; {left(self._plan, self._jobs)}"
        )
        self._build()
        try:
            while self._todo or self._working:
                self._collect()
                self._start()
                self._tell()
                time.sleep(_LOOK)
        except KeyboardInterrupt:
            for _, process in self._working.values():
                process.terminate()
            for _, process in self._working.values():
                process.wait()
            raise
        return {run.name: self._failed.get(run.name) or state_of(self._plan, run) for run in self._plan.runs}

    def _build(self) -> None:
        """Builds the mixtures first, so that runs at the same time do not build one twice."""
        for spec in dict.fromkeys(name for run in self._todo for name in _mixtures(run)):
            try:
                mixture_folder(spec)
            except UserError as error:
                failed = [run for run in self._todo if spec in _mixtures(run)]
                self._todo = [run for run in self._todo if run not in failed]
                self._failed |= {run.name: State(FAILED, f"mixture: {error}") for run in failed}
                self._say(f"{len(failed)} runs can't start: {error}")

    def _start(self) -> None:
        """Starts workers while there is room. Runs that workers of a former driver hold take room too; they
        are looked at again when those end."""
        if len(self._working) >= self._jobs:
            return
        busy = [run for run in self._todo if worked_on(self._plan, run)]
        names = {run.name for run in busy}
        for run in [run for run in self._todo if run.name not in names]:
            if len(self._working) + len(busy) >= self._jobs:
                return
            if self._stages_under_way(run):
                continue
            self._todo.remove(run)
            if state_of(self._plan, run).kind == DONE:  # by the worker of a former driver
                self._ended(run, 0)
                continue
            self._say(f"{run.name}: starts")
            self._working[run.name] = (run, self._worker(run))

    def _stages_under_way(self, run: Run) -> bool:
        """Whether another run is just making the first stages that this one can share; once one such run is
        done, they lie in the cache."""
        alike = [
            one
            for one in self._plan.runs
            if one.arm.staged and (one.model.name, one.seed) == (run.model.name, run.seed)
        ]
        if not run.arm.staged or not any(one.name in self._working for one in alike):
            return False
        ended = [one for one in alike if one.name not in self._working]
        return all(state_of(self._plan, one).kind != DONE for one in ended)

    def _worker(self, run: Run) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "harness.cli", "study", "run", self._spec, "--only", run.name]
        command += ["--output_dir", str(self._plan.folder), "--key", run.evaluation]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        log, silent = log_file(self._plan, run), subprocess.DEVNULL
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            return subprocess.Popen(
                command, stdout=silent, stderr=stream, stdin=silent, env={**os.environ, "PYTHONPATH": path}
            )

    def _collect(self) -> None:
        for name, (run, process) in list(self._working.items()):
            code = process.poll()
            if code is None:
                continue
            del self._working[name]
            if code == BUSY:
                self._todo.insert(0, run)
            else:
                self._ended(run, code)

    def _ended(self, run: Run, code: int) -> None:
        state = state_of(self._plan, run)
        if state.kind != DONE:
            said = f"its worker ended with exit code {code}: {last_line(log_file(self._plan, run))}"
            detail = state.detail if state.kind == FAILED else said
            state = self._failed[run.name] = State(FAILED, detail)
        took = seconds(run)
        what = f"done in {in_words(took)}" if state.kind == DONE and took else state.kind
        self._say(f"{run.name}: {what}{f', {state.detail}' if state.detail else ''}; {self._where()}")

    def _where(self) -> str:
        count, total = len(self._todo) + len(self._working), len(self._plan.runs)
        failed = f", {len(self._failed)} failed" if self._failed else ""
        done = total - count - len(self._failed)
        return f"{done} of {total} done{failed}, {left(self._plan, self._jobs, self._failed)}"

    def _tell(self) -> None:
        if time.monotonic() - self._told < _TELL:
            return
        self._told = time.monotonic()
        at = [(run.name, state_of(self._plan, run)) for run in self._plan.runs]
        under_way = [f"{name} {state.detail}".strip() for name, state in at if state.kind == RUNNING]
        self._say(f"under way: {', '.join(under_way) or 'nothing'}; {self._where()}")


def _mixtures(run: Run) -> list[str]:
    """All mixtures that a run needs: to train on, to be scored on, to take probe entries from."""
    others = (run.arm.evaluate_on, run.settings.get("dynamics_mixture"))
    return [*run.trained_on, *(name for name in others if name)]


def estimates(plan: Plan) -> dict[str, float | None]:
    """Seconds that each run takes: as measured; else as runs of its arm and model did on average, of its
    model, of any; else the study's guess."""
    took = {run.name: seconds(run) for run in plan.runs if state_of(plan, run).kind == DONE}
    known = [(run, value) for run in plan.runs if (value := took.get(run.name))]

    def mean(keep: Callable[[Run], bool]) -> float | None:
        values = [value for run, value in known if keep(run)]
        return statistics.fmean(values) if values else None

    guess = plan.study.minutes * 60 if plan.study.minutes else None

    def of(run: Run) -> float | None:
        return (
            took.get(run.name)
            or mean(lambda one: (one.arm.name, one.model.name) == (run.arm.name, run.model.name))
            or mean(lambda one: one.model.name == run.model.name)
            or mean(lambda one: True)
            or guess
        )

    return {run.name: of(run) for run in plan.runs}


def left(plan: Plan, jobs: int, failed: Mapping[str, State] | None = None) -> str:
    """The time that what is not done will take, in words. Runs under way count as half, those that have
    `failed` just now not at all."""
    share = {RUNNING: 0.5, DONE: 0.0}
    todo = [run for run in plan.runs if run.name not in (failed or {})]
    weights = {run.name: share.get(state_of(plan, run).kind, 1.0) for run in todo}
    found = estimates(plan)
    needed = [(found[name], weight) for name, weight in weights.items() if weight]
    if not needed:
        return "nothing left"
    if any(value is None for value, _ in needed):
        return "no run has finished yet, so no estimate of time"
    return f"about {in_words(sum((value or 0) * weight for value, weight in needed) / jobs)} left"


def in_words(value: float | None) -> str:
    """Seconds as hours, minutes and seconds."""
    return "?" if value is None else str(datetime.timedelta(seconds=round(value)))
