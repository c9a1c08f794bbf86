"""The processes of one job: who speaks and writes, their threads, and waiting for each other."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch


def is_main() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """To stderr, once for all processes."""
    if is_main():
        print(text, file=sys.stderr, flush=True)


def use_threads(threads: int) -> None:
    """Sets torch's CPU threads; 0 shares the usable cores among this machine's processes. (accelerate sets
    OMP_NUM_THREADS=1 even when it starts a single process, which would leave the other cores idle.)"""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def wait() -> None:
    """Until all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def wait_for(file: Path) -> None:
    """Until the main process has written a file, however long that takes, and all have seen it. (A barrier
    alone gives up after `--ddp_timeout`. When the main process fails, the launcher ends the others.)"""
    while not file.exists():
        time.sleep(0.5)
    wait()
