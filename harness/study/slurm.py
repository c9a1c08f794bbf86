"""An array job for Slurm: a list of the runs that are not done, and a script that does one of them by its
number. Written, not submitted; what a cluster wants said (partition, account, time, GPUs) is the user's."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from harness.study.planning import Plan
from harness.study.state import DONE, state_of
from harness.study.work import threads


class Written(NamedTuple):
    """The files, and how many runs they do."""

    script: Path
    runs: Path
    number: int


def write_slurm(plan: Plan, spec: str) -> Written:
    """Writes slurm.sh and slurm-runs.txt into the study's folder.

    Raises:
        UserError: there is nothing to do.
    """
    todo = [run.name for run in plan.runs if state_of(plan, run).kind != DONE]
    if not todo:
        raise UserError(f"{plan.study.name}: all runs are done, there is nothing to submit")
    folder = plan.folder.resolve()
    script, runs, logs = folder / "slurm.sh", folder / "slurm-runs.txt", folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    write_text("".join(f"{name}\n" for name in todo), runs)
    study = str(Path(spec).resolve()) if Path(spec).is_file() else spec
    command = [
        sys.executable,
        "-m",
        "harness.cli",
        "study",
        "run",
        study,
        "--output_dir",
        str(folder),
        "--only",
    ]
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=imax-{plan.study.name}",
        f"#SBATCH --array=1-{len(todo)}%{plan.study.jobs}",
        "#SBATCH --ntasks=1",
        f"#SBATCH --cpus-per-task={threads(plan)}",
        # sbatch splits these lines as a shell does, and % begins what it fills in.
        f"#SBATCH --output={shlex.quote(str(logs).replace('%', '%%') + '/slurm-%a.out')}",
        "# Say what your cluster needs: --partition, --account, --time, --gres=gpu:1",
        "# A run that was cut off goes on from its last checkpoint when this script is submitted again.",
        "set -euo pipefail",
        f"cd {shlex.quote(str(Path.cwd()))}  # where relative names of models and recipes begin",
        f'run=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {shlex.quote(str(runs))})',
        f'exec {shlex.join(command)} "$run"',
    ]
    write_text("\n".join(lines) + "\n", script)
    script.chmod(0o755)
    return Written(script, runs, len(todo))
