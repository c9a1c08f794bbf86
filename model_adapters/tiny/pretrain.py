"""Pretrains `tiny` on phantom descriptions and writes its checkpoint.

    python -m model_adapters.tiny.pretrain --out FOLDER

Patients come from a seed of the phantom that no recipe may use. Each image carries several listings
(`describe`) as branches of one shared sequence. Besides next-token prediction: numbers are soft labels, so
that 0.49 for 0.50 is nearly right; a linear head that is thrown away afterwards says where each structure
lies; and one branch copies random words, so that words no listing uses have trained embeddings too.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration

from data_recipes import tasks
from data_recipes.records import BOX_SLOT, fill_slots
from data_recipes.scene import FINDINGS, Scene
from data_recipes.sources import phantom
from model_adapters.base import IGNORE
from model_adapters.llava import Llava, load
from model_adapters.packing import Branch, Shared, batch, share
from model_adapters.tiny.build import NUMBERS, PATCH, SIDE, SPECIAL, WIDTH, build, save
from model_adapters.tiny.describe import Listing, describe
from model_adapters.tiny.probe import probe

RESERVED_SEED = 2_026_000  # recipes use smaller seeds, so no patient of theirs is seen here
HELD_OUT = 10_000_000  # number of the first patient that is only probed
LISTINGS = 5
COPIED = 8  # words of the copying branch
GRID = SIDE // PATCH  # image tokens a side
CELLS = 4  # cells a side of an image token's square, in which the locator says what is there
STRUCTURES = ("heart", "right lung", "left lung", *(name for name in FINDINGS if name != "edema"))
GLOBAL = ("AP", "edema 1", "edema 2", "edema 3", "CTR", "CPAR")  # said of the whole image
PLACE_WEIGHT = 8.0  # of the locator's loss, which is a mean over many empty squares
NUMBER_SPREAD = 0.015  # standard deviation of the soft label of a number


class Descriptions(Dataset[tuple[Shared, torch.Tensor, torch.Tensor]]):
    """One item an image and pass: a shared sequence, pixels (3, H, W), and where structures lie. Each pass
    has other listings of the same images. An item is a pure function of (seed, number)."""

    def __init__(self, adapter: Llava, images: int, passes: int, seed: int) -> None:
        self.adapter, self.seed, self.passes = adapter, seed, passes
        self.seen: dict[
            int, tuple[torch.Tensor, torch.Tensor, Scene]
        ] = {}  # rendering costs as much as training
        self.keys = [
            (unit.seed, unit.index, k)
            for unit in phantom.units({}, seed=RESERVED_SEED + seed, images=images)
            for k in range(phantom.image_count(unit.seed, unit.index))
        ][:images]
        assert not self.keys or self.keys[-1][1] < HELD_OUT

    def __len__(self) -> int:
        return len(self.keys) * self.passes

    def __getitem__(self, number: int) -> tuple[Shared, torch.Tensor, torch.Tensor]:
        which = number % len(self.keys)
        if which not in self.seen:
            pixels, scene, masks = phantom.render_with_masks(*self.keys[which])
            grey = self.adapter.pixels(PIL.Image.fromarray(pixels))[0]
            self.seen[which] = (grey.half(), structures(scene, masks).half(), scene)
        grey, cover, scene = self.seen[which]
        rng = np.random.default_rng([RESERVED_SEED + self.seed, number])
        sequence = shared_listings(self.adapter, describe(scene, rng, LISTINGS), (SIDE, SIDE), rng)
        return sequence, grey.float().expand(3, -1, -1), cover.float()


def shared_listings(
    adapter: Llava, listings: Sequence[Listing], size: tuple[int, int], rng: np.random.Generator
) -> Shared:
    """Listings and a copying branch behind one image; the ids are those of `adapter.conversation_ids`."""
    tokenizer = adapter.processor.tokenizer
    prefix = adapter.prompt_ids("")[:-1]  # up to the image; without the opening of the answer
    answer_opens = tokenizer.convert_tokens_to_ids("ASSISTANT:")
    written = [_written(adapter, listing, size) for listing in listings]
    ids = tokenizer([text for pair in written for text in pair], add_special_tokens=False)["input_ids"]
    branches = [
        Branch([*header, answer_opens], [*text, adapter.end_id])
        for header, text in zip(ids[::2], ids[1::2], strict=True)
    ]
    words = rng.integers(len(SPECIAL), len(tokenizer), COPIED).tolist()
    copying = tokenizer("listing: words;", add_special_tokens=False)["input_ids"]
    branches.append(Branch([*copying, *words, answer_opens], [*words, adapter.end_id]))
    return share(prefix, branches)


def structures(scene: Scene, masks: Mapping[str, np.ndarray]) -> torch.Tensor:
    """What the locator should say of each image token's square, 0..1: (GRID * GRID, structures * CELLS * CELLS), the
    share of each cell that a structure's projected mask covers, and the same global truths everywhere."""
    side = GRID * CELLS
    planes = dict.fromkeys(STRUCTURES, torch.zeros(side, side))
    for key, mask in masks.items():
        name = key.rstrip("0123456789 ")  # "nodule 0"
        if name in planes:
            cover = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), side)[0]
            planes[name] = torch.maximum(planes[name], cover)
    spread = [min(1.0, max(0.0, value)) for value in ((scene.ctr - 0.35) / 0.35, scene.cpar / 0.6)]
    whole = [float(scene.view == "AP"), *(float(scene.edema >= grade) for grade in (1, 2, 3)), *spread]
    cells = torch.stack([*planes.values(), *(torch.full((side, side), value) for value in whole)])
    squares = cells.unfold(1, CELLS, CELLS).unfold(2, CELLS, CELLS)  # (structures, GRID, GRID, CELLS, CELLS)
    return squares.permute(1, 2, 0, 3, 4).reshape(GRID * GRID, -1)


def corpus(seed: int, patients: int = 300) -> Iterator[str]:
    """Texts whose words the tokenizer knows: listings, prompts and answers of phantom patients."""
    rng = np.random.default_rng(seed)
    for task in tasks.TASKS:
        yield from (text for texts in tasks.task(task).PROMPTS.values() for text in texts)
    for unit in phantom.units({}, seed=RESERVED_SEED + seed, images=patients):
        _, scene = phantom.render(unit.seed, unit.index, 0)
        for listing in describe(scene, rng, LISTINGS):
            yield from (
                f"{text} {listing.text.replace(BOX_SLOT, '[0.00, 0.01]')}" for text in (listing.header,)
            )
        for sample in phantom.read(unit):
            yield from (text for entry in sample.entries for text in (entry.prompt, entry.target))


def soft_labels(adapter: Llava) -> torch.Tensor:
    """(V, V): row of a token id -> what to predict for it. Itself, but numbers spread over their
    neighbours."""
    size = len(adapter.processor.tokenizer)
    soft = torch.eye(size)
    ids = torch.tensor(adapter.processor.tokenizer.convert_tokens_to_ids(list(NUMBERS)))
    values = torch.tensor([float(number) for number in NUMBERS])
    near = torch.exp(-((values[:, None] - values[None, :]) ** 2) / (2 * NUMBER_SPREAD**2))
    soft[ids[:, None], ids[None, :]] = near / near.sum(1, keepdim=True)
    return soft


def losses(
    model: LlavaForConditionalGeneration,
    locator: torch.nn.Linear,
    inputs: dict[str, torch.Tensor],
    cover: torch.Tensor,
    soft: torch.Tensor,
    *,
    reads: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of the answers against soft labels (0 while the language model does not read yet), and of the
    locator against what is where."""
    labels = inputs.pop("labels")
    text = torch.zeros(())
    if reads:
        out = model.model(**inputs, use_cache=False)
        trained = labels[:, 1:] != IGNORE
        logits = model.lm_head(out.last_hidden_state[:, :-1][trained]).float()
        text = -(soft[labels[:, 1:][trained]] * logits.log_softmax(-1)).sum(-1).mean()
        features = out.image_hidden_states
    else:
        found = model.model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
        features = torch.cat(list(found))
    seen = locator(features.reshape(-1, WIDTH)).float()
    place = torch.nn.functional.binary_cross_entropy_with_logits(seen, cover.reshape(seen.shape))
    return text, place


def collate(
    items: Sequence[tuple[Shared, torch.Tensor, torch.Tensor]], pad_id: int
) -> dict[str, torch.Tensor]:
    sequences, pixels, cover = zip(*items, strict=True)
    inputs = batch(sequences, pad_id=pad_id)
    return {**inputs, "pixel_values": torch.stack(pixels), "cover": torch.stack(cover)}


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, saves every few minutes, probes at the end; returns what `pretraining.json` holds."""
    torch.manual_seed(args.seed)
    if args.start:
        adapter = load("tiny", str(args.start))
        model = adapter.load_model(dtype=torch.float32)
        save(args.out, model, adapter.processor)
    else:
        model = build(args.out, corpus(args.seed), seed=args.seed)
        adapter = load("tiny", str(args.out))
    locator = torch.nn.Linear(WIDTH, (len(STRUCTURES) + len(GLOBAL)) * CELLS * CELLS)
    parameters = [*model.parameters(), *locator.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95))
    soft = soft_labels(adapter)
    loader = DataLoader(
        Descriptions(adapter, args.images, args.passes, args.seed),
        batch_size=args.batch,
        drop_last=True,
        num_workers=args.workers,
        collate_fn=lambda items: collate(items, adapter.pad_id),
    )
    steps = len(loader)
    begun = saved = time.monotonic()
    record: list[dict[str, float]] = []
    model.train()
    step = 0
    for step, inputs in enumerate(loader, start=1):
        done = max(step / steps, (time.monotonic() - begun) / (60 * args.minutes))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * _schedule(step, done)
        cover = inputs.pop("cover")
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            text, place = losses(model, locator, inputs, cover, soft, reads=done > args.sight)
        (text + PLACE_WEIGHT * place).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        record.append({"text": text.item(), "place": place.item()})
        now = time.monotonic()
        if step % 50 == 0 or step == 10:
            rate, last = step * args.batch / (now - begun), record[-50:]
            left = (now - begun) * (1 - done) / done / 60
            means = ", ".join(f"{key} {np.mean([r[key] for r in last]):.3f}" for key in last[0])
            print(f"step {step}/{steps}: {means}, {rate:.1f} images/s, {left:.1f} min left", flush=True)
        if now - saved > 60 * args.save_minutes:
            save(args.out, model, adapter.processor)
            saved = now
        if done >= 1:
            break
    model.eval()
    save(args.out, model, adapter.processor)
    last = record[-200:]
    return {
        "command": f"python -m model_adapters.tiny.pretrain --out FOLDER{_flags(args)}",
        "phantom_version": phantom.VERSION,
        "phantom_seed": RESERVED_SEED + args.seed,
        "images": args.images,
        "images_seen": step * args.batch,
        "steps": step,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": {key: round(float(np.mean([r[key] for r in last])), 4) for key in last[0]},
        "torch": torch.__version__,
        "held_out": probe(adapter, model, RESERVED_SEED + args.seed, HELD_OUT, args.probe_images),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pretrain tiny on phantom descriptions.")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--passes", type=int, default=3, help="times each image is seen, with new listings")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop (and cool down) earlier than --images"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--start", type=Path, help="checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sight", type=float, default=0.3, help="share of the run that trains the vision tower only"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--probe-images", type=int, default=200)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    summary = train(args)
    text = json.dumps(summary, indent=2) + "\n"
    (args.out / "pretraining.json").write_text(text, encoding="utf-8")
    print(text)


def _flags(args: argparse.Namespace) -> str:
    """What decides the result, as flags."""
    names = ("images", "passes", "minutes", "sight", "batch", "lr", "seed")
    flags = [f" --{name} {getattr(args, name)}" for name in names if getattr(args, name) != math.inf]
    return "".join(flags) + ("" if args.bf16 else " --no-bf16") + (" --start FOLDER" if args.start else "")


def _written(adapter: Llava, listing: Listing, size: tuple[int, int]) -> tuple[str, str]:
    boxes = [adapter.codec.write(box, *size) for box in listing.boxes]
    asked = listing.header.count(BOX_SLOT)
    return fill_slots(listing.header, boxes[:asked]), fill_slots(listing.text, boxes[asked:])


def _schedule(step: int, done: float) -> float:
    """Warm-up over 200 steps, full rate for half of the run, then cosine down to 1 %."""
    falling = min(1.0, max(0.0, 2 * done - 1))
    return min(1.0, step / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * falling)))


if __name__ == "__main__":
    main()
