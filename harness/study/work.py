"""Does one run: trains it, measures it if that is missing, scores it. Each step is a process of its own,
which inherits the run's lock, and training holds one itself: whoever dies, nobody else starts on the run
while one of them lives."""

from __future__ import annotations

import datetime
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import UserError
from data_recipes.joining import refuse_leaks
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.store import read_meta, read_mixture
from data_recipes.tables import write_text
from harness.study.locks import VARIABLE, lock
from harness.study.locks import held as is_held
from harness.study.planning import Plan, Run
from harness.study.state import (
    lacking,
    last_line,
    lock_file,
    log_file,
    read_record,
    train_lock,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]
_GRACE = 60.0  # seconds that a step has to end when told to
BUSY = 75  # exit code: another process works on this run (EX_TEMPFAIL)


def work(plan: Plan, run: Run) -> int:
    """Brings a run to its end; returns 0, BUSY, or the exit code of the step that failed."""
    with lock(lock_file(plan, run)) as held:
        if held is None or is_held(train_lock(plan, run)):
            return BUSY
        _make_room(plan, run)
        record = read_record(run.folder) or _record(run)
        record.pop("failed", None)
        write_record(run.folder, record)
        while steps := lacking(run):
            try:
                code = _do(steps[0], plan, run, record, held)
                said = last_line(log_file(plan, run))
            except UserError as error:
                code, said = 2, f"error: {error}"
            if not code and lacking(run) == steps:
                code, said = 1, f"it ended well and left nothing to show for it; last line: {said}"
            if code:
                record["failed"] = {"step": steps[0], "exit": code, "last_line": said}
                write_record(run.folder, record)
                return code
    return 0


def _record(run: Run) -> dict[str, Any]:
    return {
        "key": run.key,
        "arm": run.arm.name,
        "model": run.model.name,
        "seed": run.seed,
        "settings": dict(run.settings),
        "attempts": [],
    }


def _make_room(plan: Plan, run: Run) -> None:
    """Moves what lies in the run's folder to old/ when it is of other settings; brings back what was moved
    there before, when its settings are those of now."""
    there = read_record(run.folder).get("key")
    if there == run.key:
        return
    plan.old.mkdir(parents=True, exist_ok=True)
    if run.folder.is_dir() and any(run.folder.iterdir()):
        run.folder.rename(_free(plan.old / f"{run.name}-{str(there or 'unknown')[:8]}"))
    back = plan.old / f"{run.name}-{run.key[:8]}"
    if read_record(back).get("key") == run.key:
        if run.folder.is_dir():
            run.folder.rmdir()
        back.rename(run.folder)


def _free(path: Path) -> Path:
    """The path, or with a number where it is taken."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _do(step: str, plan: Plan, run: Run, record: dict[str, Any], held: int) -> int:
    """One step as a process; its time goes on record, that of a killed one as unknown."""
    command = {"train": _train, "measure": _measure, "score": _score}[step](plan, run)
    attempt: dict[str, Any] = {"step": step, "started": _now(), "seconds": None, "processor_seconds": None}
    record["attempts"].append(attempt)
    write_record(run.folder, record)
    begun = time.monotonic()
    own = {VARIABLE: str(train_lock(plan, run).resolve())} if step == "train" else {}
    code, processor = _call(command, log_file(plan, run), _environment(plan) | own, held)
    attempt |= {"seconds": round(time.monotonic() - begun, 1), "processor_seconds": processor, "exit": code}
    if step == "score" and not code:
        record["evaluation"] = run.evaluation
    write_record(run.folder, record)
    return code


def _call(command: Sequence[str], log: Path, environment: Mapping[str, str], held: int) -> tuple[int, float]:
    """(exit code, processor seconds) of a command that writes to the log. It has a session of its own, so
    that all processes below it can be ended together."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        stream.write(f"\n$ {shlex.join(command)}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            pass_fds=(held,),
            env=environment,
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # interrupted or told to end: so is the step
            _end(process)
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, round(usage.ru_utime + usage.ru_stime, 1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started: a launcher told to end may leave its children behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return


def threads(plan: Plan) -> int:
    """CPU threads of a run: as said, else all cores shared out over the jobs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return plan.study.threads or max(1, cores // plan.study.jobs)


def _environment(plan: Plan) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads(plan))}


def _train(plan: Plan, run: Run) -> list[str]:
    if run.arm.evaluate_on:
        _keep_apart(run)  # before hours of training rather than after
    settings: dict[str, Any] = dict(run.settings) | {"output_dir": str(run.folder), "threads": threads(plan)}
    if run.arm.staged:
        settings["stage_cache"] = str((plan.folder / "stages").resolve())
    settings |= equal_steps(run)
    path = plan.folder / "settings" / f"{run.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), path)
    launcher = [sys.executable]
    if plan.study.launch is not None:
        launcher += ["-m", "accelerate.commands.launch", *shlex.split(plan.study.launch)]
    return [*launcher, str(ROOT / "harness" / "train.py"), str(path)]


def equal_steps(run: Run) -> Mapping[str, float]:
    """`num_train_epochs` that lets a run matched in steps draw as many entries as the one it is matched to
    draws in its own epochs; nothing for other runs, and where `max_steps` says how long all train."""
    if not run.arm.match or run.arm.match[0] != "steps" or "max_steps" in run.settings or run.arm.staged:
        return {}
    from harness.config import presets

    meta = read_meta(mixture_folder(run.arm.recipe, progress=False))
    epochs = run.settings.get("num_train_epochs")
    if epochs is None:
        epochs = presets(str(run.settings["model"]), run.arm.recipe)["num_train_epochs"]
    match = meta["match"]
    return {"num_train_epochs": float(epochs) * match["matched"]["entries"] / match["this"]["entries"]}


def _measure(plan: Plan, run: Run) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "dynamics", "measure", str(run.folder)]


def _score(plan: Plan, run: Run) -> list[str]:
    command = [sys.executable, "-m", "harness.cli", "eval", str(run.folder), "--output_dir", str(run.scores)]
    said = plan.study.evaluation
    if run.arm.evaluate_on:
        _keep_apart(run)
        command += ["--mixture", run.arm.evaluate_on]
    command += [] if said.blind else ["--no-blind"]
    for key in ("split", "backend", "batch_size", "batch_tokens", "limit", "resamples"):
        if (value := getattr(said, key)) is not None:
            command += [f"--{key}", str(value)]
    return command


def _keep_apart(run: Run) -> None:
    """Refuses a run that is scored on patients it is trained on, in any of its stages and mixtures.

    Raises:
        UserError: the mixture it is scored on holds some of them out.
    """
    assert run.arm.evaluate_on is not None
    held_out = _part(run.arm.evaluate_on, train=False)
    for spec in run.trained_on:
        refuse_leaks([(run.arm.evaluate_on, held_out), (spec, _part(spec, train=True))])


def _part(spec: str, *, train: bool) -> Mixture:
    """The training images of a mixture, or those it holds out."""
    mixture = read_mixture(mixture_folder(spec, progress=False))
    images = tuple(image for image in mixture.images if (image.split == "train") == train)
    return replace(mixture, images=images, entries=())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
