"""LoRA in bf16 on the full shape of Lingshu-7B (Qwen2.5-VL-7B), random weights: tokens/s, memory, FLOPs.

    python -m benchmarks.lingshu_shape [--batch 4] [--text 512] [--side 560] [--runs 7]

Needs a GPU with 40 GB; without one it says so and ends. Runs with and without gradient checkpointing
alternate. Model FLOPs per token: 2 N forward and 2 N for the gradients of activations (frozen weights need
none of their own), N without the embedding table; attention and recomputation are left out, so the
utilisation is a lower bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

# Dense bf16 peak, FLOP/s, of the SXM or best version of each card.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}


def lingshu() -> Any:
    """Qwen2.5-VL-7B, whose shape Lingshu-7B has: random weights in bf16 on the GPU, LoRA of rank 16."""
    import peft
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from model_adapters.qwen2_5_vl import FAMILY

    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={"hidden_size": 1280, "out_hidden_size": 3584},
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return peft.get_peft_model(
        model, peft.LoraConfig(r=16, lora_alpha=32, target_modules=FAMILY.lora_targets)
    )


def inputs(model: Any, batch: int, text: int, side: int) -> dict[str, torch.Tensor]:
    """`batch` images of `side` pixels with `text` tokens of text each, half of them trained."""
    config = model.config
    grid = side // 14
    image = [config.vision_start_token_id] + [config.image_token_id] * (grid // 2) ** 2
    words = torch.randint(0, 150_000, (batch, text)).tolist()
    ids = torch.tensor([[*image, config.vision_end_token_id, *row] for row in words])
    labels = ids.clone()
    labels[:, : -text // 2] = -100
    made = {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.image_token_id).long(),
        "pixel_values": torch.randn(batch * grid**2, 1176),
        "image_grid_thw": torch.tensor([[1, grid, grid]] * batch),
    }
    return {key: value.to("cuda") for key, value in made.items()}


def step(model: Any, optimizer: torch.optim.Optimizer, made: dict[str, torch.Tensor]) -> float:
    """Seconds of one training step."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16):
        model(**made).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--text", type=int, default=512, help="tokens of text an image")
    parser.add_argument("--side", type=int, default=560, help="pixels a side, a multiple of 28")
    parser.add_argument("--runs", type=int, default=7, help="timed steps of each kind, alternating")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: this benchmark needs one with 40 GB")
        print(json.dumps({"benchmark": "lingshu_shape", "skipped": "no GPU"}))
        return
    model = lingshu()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    made = inputs(model, asked.batch, asked.text, asked.side)
    seconds: dict[str, list[float]] = {"plain": [], "checkpointing": []}
    memory: dict[str, float] = {}
    for run in range(-1, asked.runs):  # the first is a warm-up
        for kind, times in seconds.items():
            model.train()
            if kind == "checkpointing":
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            else:
                model.gradient_checkpointing_disable()
            torch.cuda.reset_peak_memory_stats()
            spent = step(model, optimizer, made)
            memory[kind] = torch.cuda.max_memory_allocated() / 2**30
            if run >= 0:
                times.append(spent)
    name = torch.cuda.get_device_name()
    peak = next((flops for card, flops in PEAKS.items() if card in name), None)
    text_model = model.get_base_model().model.language_model
    active = sum(p.numel() for p in text_model.layers.parameters()) + 3584 * 152064
    tokens = made["input_ids"].numel()
    print(f"{'kind':14} {'tokens/s':>9} {'GiB':>6} {'utilisation':>12}")
    report: dict[str, dict[str, float | None]] = {}
    for kind, times in seconds.items():
        rate = tokens / statistics.median(times)
        used = rate * 4 * active / peak if peak else None
        report[kind] = {
            "tokens_per_second": round(rate),
            "GiB": round(memory[kind], 1),
            "mfu": used and round(used, 3),
        }
        print(f"{kind:14} {rate:9.0f} {memory[kind]:6.1f} {used or float('nan'):12.1%}")
    slower = statistics.median(seconds["checkpointing"]) / statistics.median(seconds["plain"])
    print(
        json.dumps(
            {
                "benchmark": "lingshu_shape",
                "ratios": {"checkpointing over plain, seconds": round(slower, 3)},
                "targets": {"checkpointing over plain, seconds": "<= 1.5"},
                "measured": report,
                "n": asked.runs,
                "machine": {"gpu": name, "torch": torch.__version__},
            }
        )
    )


if __name__ == "__main__":
    main()
