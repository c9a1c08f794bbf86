"""`imax train ...`: the same as `accelerate launch harness/train.py ...`, less the launcher's own noise.

accelerate reports a script that ends with an error by a traceback of its own and exit code 1; here the line
that the script printed stands alone and its exit code is kept. For accelerate's own flags, call
`accelerate launch` directly (`--quiet` spares its traceback), or write them down with `accelerate config`.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "train.py"


def launch(arguments: Sequence[str]) -> int:
    """Runs harness/train.py under accelerate with these arguments; returns the exit code of the script."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # It would warn that the number of processes and the precision were left to their defaults.
    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)
    try:
        launch_command(launch_command_parser().parse_args([str(SCRIPT), *arguments]))
    except subprocess.CalledProcessError as error:  # one process
        return int(error.returncode)
    except ChildFailedError as error:  # several
        return int(error.get_first_failure()[1].exitcode)
    return 0
