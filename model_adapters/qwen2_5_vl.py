"""Qwen2.5-VL: windowed vision tower; boxes in pixels of the resized image (Lingshu, CheXOne, NV-Reason-CXR,
HuatuoGPT-Vision-Qwen2.5VL).

The processor resizes an image to a multiple of 28 pixels a side within bounds on its area, so the numbers of
a box depend on those bounds. They are the checkpoint's, in training and in inference alike.
"""

from __future__ import annotations

from transformers import (
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from model_adapters.base import Family
from model_adapters.boxes import Notation, resized
from model_adapters.qwen2_vl import flavour_of, positions


def codec(processor: ProcessorMixin) -> Notation:
    """`[x1, y1, x2, y2]` in pixels of the resized image."""
    images = processor.image_processor

    def size(width: int, height: int) -> tuple[int, int]:
        rows, columns = smart_resize(
            height,
            width,
            factor=images.patch_size * images.merge_size,
            min_pixels=images.size["shortest_edge"],
            max_pixels=images.size["longest_edge"],
        )
        return columns, rows

    return Notation("[{x1}, {y1}, {x2}, {y2}]", resized(size))


FAMILY = Family(
    name="qwen2_5_vl",
    model_class=Qwen2_5_VLForConditionalGeneration,
    config_class=Qwen2_5_VLConfig,
    processor_class=Qwen2_5_VLProcessor,
    projector=r".*visual\.merger\.mlp\.[02]",
    codec=codec,
    flavour=flavour_of(
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        lambda sizes: {
            "hidden_size": sizes.width,
            "intermediate_size": sizes.ratio * sizes.width,
            "out_hidden_size": sizes.text["hidden_size"],
            "window_size": 56,
            "fullatt_block_indexes": list(range(sizes.depth - 1, -1, -3)),  # the last, and each third
        },
    ),
    type_ids="mm_token_type_ids",
    positions=positions,
)
