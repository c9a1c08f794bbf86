"""The processes that answer a test set together, as accelerate starts them: each writes a file of its own,
and they wait for each other where one reads what another wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

# A process may be done long before another one: no wait between them ever gives up, and the launcher ends all
# when one dies.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Team:
    """This process among `size`, counted from 0; by default alone."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            torch.distributed.barrier()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader does what is inside, then the others; for what is made once and found from then on."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


def join_team() -> Team:
    """The processes that accelerate (or torchrun) started this one with. Each takes a GPU of its own."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size > 1 and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # gloo on GPUs too: nothing but waiting goes through it.
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    return Team(rank, size)


def leave_team() -> None:
    """Ends what `join_team` began, if it did."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
