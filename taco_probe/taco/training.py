"""Trains an encoder: AdamW with warm-up and a cosine, progress with time left, and a checkpoint from which a
run that was killed goes on to the same weights.

    RUN/  settings.yaml  pools.json  train.jsonl  encoder.safetensors  checkpoints/last.safetensors

With several processes (accelerate launch) each takes its share of every batch; the loss is over all of it.
Batch normalisation takes each process's own share.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from taco_probe.taco.batches import Batches
from taco_probe.taco.encoder import TaskEncoder
from taco_probe.taco.loss import supervised_contrastive
from taco_probe.taco.pool import Pool
from taco_probe.taco.progress import Progress
from taco_probe.taco.settings import Settings
from taco_probe.taco.views import Pairs, Shown

SETTINGS, LOG, WEIGHTS = "settings.yaml", "train.jsonl", "encoder.safetensors"
CHECKPOINT = "checkpoints/last.safetensors"
_AHEAD = 4  # batches read while the encoder works
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")

Item = TypeVar("Item")


def train(
    settings: Settings,
    pool: Pool,
    run: Path,
    *,
    save_steps: int = 100,
    quiet: bool = False,
    on_save: Callable[[int], None] | None = None,
    name: str = "training",
) -> None:
    """Trains to the end, from the run's checkpoint if there is one, and writes encoder.safetensors.

    Args:
        pool: for training.
        run: the run's folder.
        save_steps: steps between two checkpoints; 0 for none.
        on_save: told the step of each checkpoint, in the main process.
        name: for the progress.

    Raises:
        UserError: a loss that is not finite, a checkpoint of other settings, a pool that does not suffice.
    """
    accelerator = processes()
    device, main = accelerator.device, accelerator.is_main_process
    encoder = TaskEncoder(settings).to(device)
    optimizer = torch.optim.AdamW(
        encoder.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    done = _restore(run / CHECKPOINT, encoder, optimizer, settings)
    model = accelerator.prepare(encoder).train()
    if main:
        _cut_log(run / LOG, done)
    batches, shown = Batches(pool.rows, settings), Shown(pool, settings.view, settings.pool_seed)
    share = slice(accelerator.process_index, None, accelerator.num_processes)

    def read(step: int) -> tuple[Pairs, torch.Tensor]:
        rows, labels = batches[step]
        return shown[rows[share]], torch.from_numpy(labels[share])

    with (
        Progress(name, settings.steps, "step", done=done, quiet=quiet or not main) as progress,
        (run / LOG).open("a", encoding="utf-8") as log,
    ):
        start = time.perf_counter()
        for step, (pairs, labels) in enumerate(ahead(read, done, settings.steps), start=done + 1):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * pace(step, settings)
            vectors = model(pairs.inputs.to(device), pairs.targets.to(device))
            everyone, labels = over_processes(vectors, labels.to(device), accelerator)
            loss = supervised_contrastive(everyone, labels, settings.temperature)
            # DDP takes the mean of gradients, each of which is of the process's own rows alone.
            accelerator.backward(loss * accelerator.num_processes)
            optimizer.step()
            optimizer.zero_grad()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise UserError(
                    f"{run}: the loss is {value} at step {step}: lower --learning_rate or raise --temperature"
                )
            now = time.perf_counter()
            if main:
                line = {
                    "step": step,
                    "loss": round(value, 6),
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "instances_per_second": round(len(labels) / (now - start), 2),
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
            start = now
            progress.step(1, f"loss {value:.3f}")
            if main and save_steps and step % save_steps == 0 and step < settings.steps:
                _save(run / CHECKPOINT, encoder, optimizer, settings, step)
                if on_save is not None:
                    on_save(step)
    if main:
        _save_whole(encoder.state_dict(), run / WEIGHTS, {})
    accelerator.wait_for_everyone()


def processes() -> Accelerator:
    """The processes of this job: one, or as many as accelerate or torchrun launched."""
    if torch.cuda.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Accelerator()
    return Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")])


def pace(step: int, settings: Settings) -> float:
    """Share of the learning rate at a step, counted from 1: a rise over the warm-up, then half a cosine that
    comes to 0 after the last step."""
    rise = round(settings.warmup * settings.steps)
    if step <= rise:
        return step / rise
    return 0.5 * (1 + math.cos(math.pi * (step - 1 - rise) / max(1, settings.steps - rise)))


def ahead(read: Callable[[int], Item], first: int, end: int) -> Iterator[Item]:
    """read(first), ..., read(end - 1), read in a thread some calls ahead."""
    numbers = iter(range(first, end))
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(read, number) for number in islice(numbers, _AHEAD))
        while waiting:
            ready = waiting.popleft().result()
            waiting.extend(thread.submit(read, number) for number in islice(numbers, 1))
            yield ready


def over_processes(
    vectors: torch.Tensor, labels: torch.Tensor, accelerator: Accelerator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of all processes, of which this one's carry its gradient. The loss is the same number in all,
    and the sum over processes of its gradients is the gradient of the whole."""
    if accelerator.num_processes == 1:
        return vectors, labels
    sizes = accelerator.gather(torch.tensor([len(labels)], device=labels.device)).tolist()
    most = max(sizes)
    padded = torch.nn.functional.pad(vectors.detach(), (0, 0, 0, most - len(vectors)))
    rows = list(accelerator.gather(padded).split(most))
    marks = accelerator.gather(torch.nn.functional.pad(labels, (0, most - len(labels)))).split(most)
    rows = [part[:size] for part, size in zip(rows, sizes, strict=True)]
    rows[accelerator.process_index] = vectors
    return torch.cat(rows), torch.cat([part[:size] for part, size in zip(marks, sizes, strict=True)])


def load_encoder(run: Path, settings: Settings) -> TaskEncoder:
    """The trained encoder of a run.

    Raises:
        UserError: the run is not finished, or its weights are broken.
    """
    encoder = TaskEncoder(settings.model_copy(update={"weights": ""}))
    try:
        with safe_open(run / WEIGHTS, "pt") as file:
            encoder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(
            f"{run} is not finished: it has no {WEIGHTS}; imax taco train goes on with it"
        ) from None
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{run / WEIGHTS} is broken: {' '.join(str(error).split())[:200]}") from None
    return encoder


def _save(
    file: Path, encoder: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings, step: int
) -> None:
    """Weights, running means and moments, whole or not at all."""
    tensors = dict(encoder.state_dict())
    for name, parameter in encoder.named_parameters():
        for key in _MOMENTS:
            tensors[f"{key}/{name}"] = optimizer.state[parameter][key]
    _save_whole(tensors, file, {"step": str(step), "settings": settings.model_dump_json()})


def _restore(file: Path, encoder: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> int:
    """The step to go on from: 0 without a checkpoint."""
    if not file.is_file():
        return 0
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata() or {}
            if about.get("settings", "") not in ("", settings.model_dump_json()):
                raise UserError(f"{file} was written with other settings: choose another --output_dir")
            encoder.load_state_dict({name: stored.get_tensor(name) for name in encoder.state_dict()})
            for name, parameter in encoder.named_parameters():
                moments: dict[str, Any] = {key: stored.get_tensor(f"{key}/{name}") for key in _MOMENTS}
                for key in _MOMENTS[1:]:  # in the parameter's own layout, which decides the order of sums
                    moments[key] = torch.empty_like(parameter).copy_(moments[key])
                optimizer.state[parameter] = moments
            return int(about["step"])
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} is broken: {reason}; delete it to begin anew") from None


def _save_whole(tensors: dict[str, torch.Tensor], file: Path, metadata: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, part, metadata)
    part.replace(file)


def _cut_log(file: Path, step: int) -> None:
    """Drops the lines after `step`, which are written anew, and a torn one."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            number = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            break
        if number <= step:
            kept.append(line + "\n")
    write_text("".join(kept), file)
