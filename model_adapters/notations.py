"""Box notations by name, for texts that are written without a model at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data_recipes.errors import unknown
from data_recipes.notation import Brackets, Unit
from model_adapters.base import BoxCodec
from model_adapters.registry import FAMILIES, MODELS, family, load_adapter

_PLAIN: dict[str, Unit] = {"canonical": "fractions", "thousandths": "thousandths", "pixels": "pixels"}
# What the published Qwen2.5-VL checkpoints say in preprocessor_config.json: boxes are pixels of an image
# between these sizes. A checkpoint with other limits is named itself.
_PUBLISHED: Any = SimpleNamespace(
    image_processor=SimpleNamespace(
        patch_size=14, merge_size=2, size={"shortest_edge": 3136, "longest_edge": 12_845_056}
    )
)


def notation(name: str) -> Brackets | BoxCodec:
    """The notation of that name.

    Args:
        name: canonical, thousandths, pixels; a family (as its published checkpoints write boxes); or a
            model: a short name, a folder, a hub id.

    Raises:
        UserError: no such notation, or the model cannot be read.
    """
    if name in _PLAIN:
        return Brackets(_PLAIN[name])
    if name in FAMILIES:
        return family(name).codec(_PUBLISHED)
    if name in MODELS or "/" in name or Path(name).is_dir():
        return load_adapter(name).codec
    raise unknown("notation", name, [*_PLAIN, *FAMILIES], "Or name a model, its folder or its hub id")
