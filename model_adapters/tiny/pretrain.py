"""Pretrains `tiny` on phantom descriptions and writes its checkpoint.

    python -m model_adapters.tiny.pretrain --out FOLDER

Patients come from a seed of the phantom that no recipe may use. Three stages: images are rendered
(`material`), the vision tower learns to see (`sight`), the whole model learns to read images (here). The
first two are kept under --work and skipped when they are there. Each image carries several listings
(`describe`) as branches of one shared sequence. Besides next-token prediction: numbers are soft labels, so
that 0.49 for 0.50 is nearly right; the heads of `sight` stay on, so that sight is kept; and one branch copies
random words, so that words no listing uses have trained embeddings too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration

from data_recipes import tasks
from data_recipes.recipe import home
from data_recipes.records import BOX_SLOT, fill_slots
from data_recipes.sources import phantom
from data_recipes.tables import write_text
from model_adapters.adapter import Adapter
from model_adapters.base import IGNORE
from model_adapters.packing import Branch, Shared, batch, share
from model_adapters.registry import load_adapter
from model_adapters.tiny.build import NUMBERS, SIDE, SPECIAL, build, save
from model_adapters.tiny.describe import Listing, describe
from model_adapters.tiny.material import HELD_OUT, RESERVED_SEED, Material, prepare, shuffled
from model_adapters.tiny.probe import probe
from model_adapters.tiny.sight import Heads, exposed, learn_to_see
from model_adapters.tiny.steps import Steps

LISTINGS = 6
COPIED = 8  # words of the copying branch
NUMBER_SPREAD = 0.015  # standard deviation of the soft label of a number
SIGHT_PACE = 0.3  # learning rate of what `sight` has trained, as a share of that of the language model


class Item(NamedTuple):
    """One image with its listings, ready to be batched."""

    sequence: Shared
    number: int


class Descriptions(Dataset[Item]):
    """Listings of the material's images, other ones in each pass; an item is a function of (seed, number)."""

    def __init__(self, adapter: Adapter, material: Material, steps: int, batch_size: int, seed: int) -> None:
        self._adapter, self._material, self._seed = adapter, material, seed
        self._length = steps * batch_size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Item:
        rng = np.random.default_rng([RESERVED_SEED + self._seed, number])
        which = shuffled(len(self._material), number, self._seed)
        listings = describe(self._material.scenes[which], rng, LISTINGS)
        blank = PIL.Image.new("L", (SIDE, SIDE))
        return Item(shared_listings(self._adapter, listings, blank, rng), which)


def shared_listings(
    adapter: Adapter, listings: Sequence[Listing], blank: PIL.Image.Image, rng: np.random.Generator
) -> Shared:
    """Listings and a copying branch behind an image of the size of `blank`; the ids are those of
    `adapter.conversation_ids`."""
    tokenizer = adapter.processor.tokenizer
    prefix = _prefix(adapter, blank.size)
    answer_opens = tokenizer.convert_tokens_to_ids("ASSISTANT:")
    written = [_written(adapter, listing, blank.size) for listing in listings]
    ids = tokenizer([text for pair in written for text in pair], add_special_tokens=False)["input_ids"]
    branches = [
        Branch([*header, answer_opens], [*text, adapter.end_id])
        for header, text in zip(ids[::2], ids[1::2], strict=True)
    ]
    words = rng.integers(len(SPECIAL), len(tokenizer), COPIED).tolist()
    copying = tokenizer("listing: words;", add_special_tokens=False)["input_ids"]
    branches.append(Branch([*copying, *words, answer_opens], [*words, adapter.end_id]))
    return share(prefix, branches)


def corpus(seed: int, patients: int = 300) -> Iterator[str]:
    """Texts whose words the tokenizer knows: listings, prompts and answers of phantom patients."""
    rng = np.random.default_rng(seed)
    for task in tasks.TASKS:
        yield from (text for texts in tasks.task(task).PROMPTS.values() for text in texts)
    for unit in phantom.units({}, seed=RESERVED_SEED + seed, images=patients):
        _, scene = phantom.render(unit.seed, unit.index, 0)
        for listing in describe(scene, rng, LISTINGS):
            yield f"{listing.header} {listing.text}".replace(BOX_SLOT, "[0.00, 0.01]")
        for sample in phantom.read(unit):
            yield from (text for entry in sample.entries for text in (entry.prompt, entry.target))


def soft_labels(adapter: Adapter) -> torch.Tensor:
    """(V, V): row of a token id -> what to predict for it. Itself, but numbers spread
    over their neighbours."""
    soft = torch.eye(len(adapter.processor.tokenizer))
    ids = torch.tensor(adapter.processor.tokenizer.convert_tokens_to_ids(list(NUMBERS)))
    values = torch.tensor([float(number) for number in NUMBERS])
    near = torch.exp(-((values[:, None] - values[None, :]) ** 2) / (2 * NUMBER_SPREAD**2))
    soft[ids[:, None], ids[None, :]] = near / near.sum(1, keepdim=True)
    return soft


def learn_to_read(
    model: LlavaForConditionalGeneration,
    heads: Heads,
    material: Material,
    adapter: Adapter,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Trains everything on listings; returns mean losses of the last steps."""
    seeing = [p for name, p in model.named_parameters() if "language_model" not in name]
    reading = [p for name, p in model.named_parameters() if "language_model" in name]
    groups = [(reading, 1.0), (seeing, SIGHT_PACE), (list(heads.parameters()), SIGHT_PACE)]
    run = Steps(groups, args.lr, args.read_steps, "read")
    soft = soft_labels(adapter)
    loader = DataLoader(
        Descriptions(adapter, material, args.read_steps, args.batch, args.seed),
        batch_size=args.batch,
        num_workers=args.workers,
        collate_fn=lambda items: collate(items, adapter.pad_id),
    )
    for step, (inputs, which) in zip(run.steps(), loader, strict=True):
        labels = inputs.pop("labels")
        inputs = adapter.with_mask(inputs, model)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            out = model.model(**inputs, pixel_values=exposed(material.pixels(which)), use_cache=False)
            trained = labels[:, 1:] != IGNORE
            logits = model.lm_head(out.last_hidden_state[:, :-1][trained]).float()
            text = -(soft[labels[:, 1:][trained]] * logits.log_softmax(-1)).sum(-1).mean()
            tokens = out.image_hidden_states.view(len(which), -1, out.image_hidden_states.shape[-1])
            seen, parts = heads.losses(tokens, material, which)
        run.descend(text + seen, {"text": text, **parts}, args.batch)
        if step % args.save_steps == 0:
            save(args.out, model, adapter.processor)
    return run.last()


def collate(items: Sequence[Item], pad_id: int) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """What `Adapter.with_mask` makes inputs of, without pixels, and which images they are about (B,)."""
    inputs = batch([[item.sequence] for item in items], pad_id=pad_id)
    return inputs, np.array([item.number for item in items])


def stage(folder: Path, settings: dict[str, Any], make: Callable[[], dict[str, float]]) -> dict[str, Any]:
    """What `make` returned when it was run with these settings, now or before."""
    done = folder / "done.json"
    if done.exists() and (kept := json.loads(done.read_text(encoding="utf-8")))["settings"] == settings:
        return dict(kept)
    kept = {"settings": settings, "losses": make()}
    write_text(json.dumps(kept, indent=1), done)
    return kept


def train(args: argparse.Namespace) -> dict[str, Any]:
    """All stages; returns what `pretraining.json` holds."""
    torch.manual_seed(args.seed)
    seen = args.work / "sight"
    settings = {
        key: getattr(args, key)
        for key in ("images", "seed", "sight_steps", "sight_batch", "sight_lr", "bf16")
    }
    first = args.work / "random"
    if not (first / "config.json").exists():
        build(first, corpus(args.seed), seed=args.seed)
    prepare(args.work / "material", first, args.images, args.seed, max(1, args.workers))
    heads = Heads()

    def see() -> dict[str, float]:
        adapter = load_adapter(str(first))
        model = adapter.load_model(dtype=torch.float32).train()
        losses = learn_to_see(model, heads, Material(args.work / "material", adapter), args)
        save(seen, model, adapter.processor)
        save_file(heads.state_dict(), seen / "heads.safetensors")
        return losses

    sight = stage(seen, {**settings, "phantom": phantom.VERSION}, see)
    heads.load_state_dict(load_file(seen / "heads.safetensors"))
    adapter = load_adapter(str(seen))
    model = adapter.load_model(dtype=torch.float32).train()
    torch.manual_seed(args.seed + 1)
    read = learn_to_read(model, heads, Material(args.work / "material", adapter), adapter, args)
    model.eval()
    save(args.out, model, adapter.processor)
    return {
        "command": f"python -m model_adapters.tiny.pretrain --out FOLDER{_flags(args)}",
        "phantom_version": phantom.VERSION,
        "phantom_seed": RESERVED_SEED + args.seed,
        "images": args.images,
        "images_seen": {"sight": args.sight_steps * args.sight_batch, "read": args.read_steps * args.batch},
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": {"sight": sight["losses"], "read": read},
        "torch": torch.__version__,
        "held_out": probe(adapter, model, RESERVED_SEED + args.seed, HELD_OUT, args.probe_images),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pretrain tiny on phantom descriptions.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--work", type=Path, help="rendered images and stages; default: in the cache of mixtures"
    )
    parser.add_argument("--images", type=int, default=40_000, help="images to render")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sight_steps", type=int, default=5000)
    parser.add_argument("--sight_batch", type=int, default=32)
    parser.add_argument("--sight_lr", type=float, default=1.5e-3)
    parser.add_argument("--read_steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--save_steps", type=int, default=200)
    parser.add_argument("--probe_images", type=int, default=200)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    args.work = args.work or home() / "pretraining"
    summary = train(args)
    text = json.dumps(summary, indent=2) + "\n"
    write_text(text, args.out / "pretraining.json")
    print(text)


def _flags(args: argparse.Namespace) -> str:
    """What decides the result, as flags."""
    names = ("images", "seed", "sight_steps", "sight_batch", "sight_lr", "read_steps", "batch", "lr")
    return "".join(f" --{name} {getattr(args, name)}" for name in names) + ("" if args.bf16 else " --no-bf16")


@lru_cache
def _prefix(adapter: Adapter, size: tuple[int, int]) -> list[int]:
    """Ids up to the image, without the opening of the answer; they depend on the image's size alone."""
    return adapter.prompt_ids("", adapter.see(PIL.Image.new("L", size)))[:-1]


def _written(adapter: Adapter, listing: Listing, size: tuple[int, int]) -> tuple[str, str]:
    boxes = [adapter.codec.write(box, *size) for box in listing.boxes]
    asked = listing.header.count(BOX_SLOT)
    return fill_slots(listing.header, boxes[:asked]), fill_slots(listing.text, boxes[asked:])


if __name__ == "__main__":
    main()
