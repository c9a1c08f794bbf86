"""Pretrains a family's tiny flavour on phantom descriptions and writes its checkpoint.

    python -m model_adapters.tiny.pretrain --family FAMILY --budget small --out FOLDER

Patients come from a seed of the phantom that no recipe may use. Three stages: images are rendered
(`material`, once for all families), the vision tower learns to see (`sight`), the whole model learns to read
images (`read`). What is done is kept under --work: a killed command, given again, goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from data_recipes.errors import UserError
from data_recipes.recipe import home
from data_recipes.sources import phantom
from data_recipes.tables import write_text
from model_adapters.registry import load_adapter
from model_adapters.tiny.build import save
from model_adapters.tiny.families import FAMILIES, make
from model_adapters.tiny.material import HELD_OUT, RESERVED_SEED, Material, prepare
from model_adapters.tiny.probe import probe
from model_adapters.tiny.read import learn_to_read
from model_adapters.tiny.sight import Heads, learn_to_see
from model_adapters.tiny.steps import Progress

# `full` made `tiny`.
BUDGETS: dict[str, dict[str, Any]] = {
    "full": {
        "images": 40_000,
        "sight_steps": 5000,
        "sight_batch": 32,
        "sight_lr": 1.5e-3,
        "read_steps": 2600,
        "batch": 16,
        "lr": 1.2e-3,
        "probe_images": 200,
    },
    "small": {
        "images": 10_000,
        "sight_steps": 1100,
        "sight_batch": 16,
        "sight_lr": 3e-3,
        "read_steps": 500,
        "batch": 8,
        "lr": 2e-3,
        "probe_images": 60,
    },
}
SIGHT = ("family", "images", "seed", "sight_steps", "sight_batch", "sight_lr", "bf16")
READ = (*SIGHT, "read_steps", "batch", "lr")


def train(args: argparse.Namespace) -> dict[str, Any]:
    """All stages; returns what `pretraining.json` holds."""
    begun = time.process_time()
    own = args.work / args.family
    first, seen = own / "random", own / "sight"
    settings = {"phantom": phantom.VERSION}
    sight_settings = settings | {key: getattr(args, key) for key in SIGHT}
    read_settings = settings | {key: getattr(args, key) for key in READ}

    def begin() -> dict[str, float]:
        make(args.family, first, args.seed)
        return {}

    stage(first, settings | {"seed": args.seed}, begin)
    rendered = args.work / f"images-{args.seed}-{args.images}"
    prepare(rendered, args.images, args.seed, args.workers)
    heads = Heads(args.seed)

    def see() -> dict[str, float]:
        adapter = load_adapter(str(first))
        model = adapter.load_model(dtype=torch.float32).train()
        progress = Progress(seen / "progress.safetensors", sight_settings, args.save_steps)
        losses = learn_to_see(model, heads, Material(rendered, adapter), args, progress)
        save(seen, model, adapter.processor)
        save_file(heads.state_dict(), seen / "heads.safetensors")
        progress.file.unlink(missing_ok=True)
        return losses

    sight = stage(seen, sight_settings, see)
    heads.load_state_dict(load_file(seen / "heads.safetensors"))
    adapter = load_adapter(str(seen))
    model = adapter.load_model(dtype=torch.float32).train()
    progress = Progress(own / "read.safetensors", read_settings, args.save_steps)
    read = learn_to_read(model, heads, Material(rendered, adapter), adapter, args, progress)
    model.eval()
    save(args.out, model, adapter.processor)
    return {
        "command": f"python -m model_adapters.tiny.pretrain --out FOLDER{_flags(args)}",
        "family": args.family,
        "phantom_version": phantom.VERSION,
        "phantom_seed": RESERVED_SEED + args.seed,
        "images": args.images,
        "images_seen": {"sight": args.sight_steps * args.sight_batch, "read": args.read_steps * args.batch},
        "parameters": sum(p.numel() for p in model.parameters()),
        "processor_seconds": round(time.process_time() - begun),
        "losses": {"sight": sight["losses"], "read": read},
        "torch": torch.__version__,
        "held_out": probe(adapter, model, RESERVED_SEED + args.seed, HELD_OUT, args.probe_images),
    }


def stage(folder: Path, settings: dict[str, Any], make: Callable[[], Any]) -> dict[str, Any]:
    """What `make` returned when it was run with these settings, now or before."""
    done = folder / "done.json"
    if done.exists() and (kept := json.loads(done.read_text(encoding="utf-8")))["settings"] == settings:
        return dict(kept)
    done.unlink(missing_ok=True)
    kept = {"settings": settings, "losses": make()}
    write_text(json.dumps(kept, indent=1), done)
    return kept


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; what the user leaves open is the budget's."""
    parser = argparse.ArgumentParser(description="Pretrain a family's tiny flavour on phantom descriptions.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--family", default="llava", help=f"one of {', '.join(FAMILIES)}; default: llava")
    parser.add_argument(
        "--budget",
        choices=BUDGETS,
        default="full",
        help="small: about 15 minutes of one CPU thread a family; default: full, which made `tiny`",
    )
    parser.add_argument(
        "--work", type=Path, help="rendered images and stages; default: in the cache of mixtures"
    )
    parser.add_argument("--images", type=int, help="images to render, for all families alike")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sight_steps", type=int)
    parser.add_argument("--sight_batch", type=int, help="images of a step")
    parser.add_argument("--sight_lr", type=float)
    parser.add_argument("--read_steps", type=int)
    parser.add_argument("--batch", type=int, help="images of a step of reading, each with seven listings")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--workers", type=int, default=2, help="processes that render and prepare; 0: none")
    parser.add_argument("--threads", type=int, help="of the computation; default: torch's")
    parser.add_argument("--save_steps", type=int, default=100, help="steps between checkpoints of a stage")
    parser.add_argument("--probe_images", type=int, help="held-out images to ask about at the end")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args(argv)
    for key, value in BUDGETS[args.budget].items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    args.work = args.work or home() / "pretraining"
    return args


def main(argv: list[str] | None = None) -> int:
    """The command line; a user's mistake gives 2."""
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        summary = train(args)
    except UserError as error:
        print(f"error: {error}")
        return 2
    text = json.dumps(summary, indent=2) + "\n"
    write_text(text, args.out / "pretraining.json")
    print(text)
    return 0


def _flags(args: argparse.Namespace) -> str:
    """What decides the result, as flags."""
    names = (*(key for key in READ if key != "bf16"),)
    return "".join(f" --{name} {getattr(args, name)}" for name in names) + ("" if args.bf16 else " --no-bf16")


if __name__ == "__main__":
    raise SystemExit(main())
