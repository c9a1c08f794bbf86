"""One-step task affinity: how a step along one task's gradient changes the loss of the other tasks, tried out
on the model (Fifty et al. 2021, "Efficiently identifying task groupings for multi-task learning").

The step of task a is theta - eta d, with d the mean gradient of its entries or, where there are second
moments, that gradient preconditioned as Adam would. eta is such that to first order the task's own loss falls
by STEP of it, so that steps of different tasks, runs and moments are of one size. Half of the patients give
the gradient, the other half is looked at, and the other way round: no entry judges a step it was part of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch

from data_recipes.draws import draws
from data_recipes.errors import UserError
from taco_probe.dynamics.batches import Batch, Encoded
from taco_probe.dynamics.hooks import measuring

STEP = 0.01
Losses = Callable[[Any, Batch], torch.Tensor]
Moments = Mapping[torch.Tensor, torch.Tensor]
# Numbers of entries to (number, loss) of each, in any order.
Look = Callable[[Sequence[int]], Iterable[tuple[int, float]]]


class Tried(NamedTuple):
    """Losses of all entries as they were, and by task how a step along its gradient changes each: after minus
    before, in nats, so below 0 the task helps."""

    before: list[float]
    changes: dict[str, list[float]]


def affinity(
    model: torch.nn.Module,
    encoded: Encoded,
    losses: Losses,
    tasks: Sequence[str],
    patients: Sequence[str],
    *,
    look: Look | None = None,
    moments: Moments | None = None,
    eps: float = 1e-8,
) -> Tried:
    """Tries a step along the gradient of each task. The model is left as it was.

    Args:
        tasks, patients: of each entry.
        look: gives the losses of entries by number, without gradients; by default `losses` does. Looking is
            most of the work, and entries of an image can share it (see `shared_look`).
        moments: bias-corrected second moments by parameter, for Adam's direction.

    Raises:
        UserError: a task has entries of one patient only, or no gradient.
    """
    need_two_patients(tasks, patients)
    whole = range(len(tasks))
    look = look or _apart(model, encoded, losses)
    parameters = [p for p in model.parameters() if p.requires_grad]
    kept = [p.detach().clone() for p in parameters]
    changes: dict[str, list[float]] = {}
    with measuring(model):
        before = _seen(look, whole)
        for task in dict.fromkeys(tasks):
            after: dict[int, float] = {}
            side = halves(patients, [patients[n] for n in whole if tasks[n] == task])
            for half in (0, 1):
                steering = [n for n in whole if tasks[n] == task and side[n] == half]
                size = STEP * sum(before[n] for n in steering) / len(steering)
                try:
                    _move(model, parameters, encoded, losses, steering, size, moments or {}, eps)
                    after |= _seen(look, [n for n in whole if side[n] != half])
                except _NoSlopeError:
                    raise UserError(f"task {task} has no gradient at this point") from None
                finally:
                    _put_back(parameters, kept)
            changes[task] = [after[n] - before[n] for n in whole]
    return Tried([before[n] for n in whole], changes)


def need_two_patients(tasks: Sequence[str], patients: Sequence[str]) -> None:
    """Raises: UserError: a task has entries of one patient only, so no other can look at its step."""
    for task in dict.fromkeys(tasks):
        if len({patient for patient, one in zip(patients, tasks, strict=True) if one == task}) < 2:
            raise UserError(
                f"task {task} has probe entries of one patient only, and the effect of its step is looked at "
                "on others: probe more entries (--dynamics_entries)"
            )


def halves(patients: Sequence[str], both: Sequence[str] = (), seed: int = 0) -> list[int]:
    """0 or 1 for each entry, the same for all entries of a patient.

    Args:
        both: patients who are to be on both sides, as many on either, or one more on side 0; so are the rest.
    """
    names = sorted(set(patients))
    drawn = dict(zip(names, draws(names, seed, "halves").tolist(), strict=True))
    first = set(both)
    parts = ([name for name in names if (name in first) == inside] for inside in (True, False))
    side = {name: rank % 2 for part in parts for rank, name in enumerate(sorted(part, key=drawn.__getitem__))}
    return [side[patient] for patient in patients]


class _NoSlopeError(Exception):
    pass


def _move(
    model: torch.nn.Module,
    parameters: Sequence[torch.nn.Parameter],
    encoded: Encoded,
    losses: Losses,
    numbers: Sequence[int],
    decrease: float,
    moments: Moments,
    eps: float,
) -> None:
    """A step that lowers the mean loss of these entries by `decrease`, to first order."""
    for part in encoded.parts(numbers):
        with torch.enable_grad():
            each = losses(model, encoded.batch(part))
            (each.sum() / len(numbers)).backward()  # type: ignore[no-untyped-call]
    steps, slope = [], 0.0
    for parameter in parameters:
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = None
        step = grad
        if parameter in moments:
            step = grad / (moments[parameter].to(grad.dtype).sqrt() + eps)
        steps.append(step)
        slope += float((grad.double() * step.double()).sum())
    if not slope > 0:
        raise _NoSlopeError
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.sub_(decrease / slope * step)


def _put_back(parameters: Sequence[torch.nn.Parameter], kept: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)


def _seen(look: Look, numbers: Sequence[int]) -> dict[int, float]:
    with torch.no_grad():
        return dict(look(numbers))


def _apart(model: torch.nn.Module, encoded: Encoded, losses: Losses) -> Look:
    """A sequence each."""

    def look(numbers: Sequence[int]) -> Iterator[tuple[int, float]]:
        for part in encoded.parts(numbers):
            yield from zip(part, losses(model, encoded.batch(part)).tolist(), strict=True)

    return look


def shared_look(model: torch.nn.Module, encoded: Encoded, losses: Losses) -> Look:
    """Entries of an image in one sequence, where the chat template allows it."""
    if not encoded.shares():
        return _apart(model, encoded, losses)

    def look(numbers: Sequence[int]) -> Iterator[tuple[int, float]]:
        for groups in encoded.shared_parts(numbers):
            found = losses(model, encoded.shared_batch(groups, model))
            yield from zip(chain(*groups), found.tolist(), strict=True)

    return look
