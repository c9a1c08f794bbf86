"""Notations by name, against those of the adapters."""

from __future__ import annotations

import pytest

from data_recipes.errors import UserError
from data_recipes.records import Box
from model_adapters.notations import notation
from model_adapters.registry import FAMILIES, load_adapter

BOX = Box(0.25, 0.125, 0.5, 0.75)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_writes_boxes_without_a_checkpoint(name):
    written = notation(name).write(BOX, 640, 480)
    text, (read,) = notation(name).read(written, 640, 480)
    assert text == "{box}"
    assert read.iou(BOX) > 0.95


def test_qwen2_5_vl_writes_pixels_of_the_image_as_its_published_checkpoints_resize_it():
    # 640 x 480 becomes 644 x 476, the nearest multiples of 28
    assert notation("qwen2_5_vl").write(BOX, 640, 480) == "[161, 60, 322, 357]"


def test_a_model_has_the_notation_of_its_adapter():
    assert notation("tiny").write(BOX, 60, 40) == load_adapter("tiny").codec.write(BOX, 60, 40)


def test_plain_notations_and_mistakes():
    assert notation("canonical").write(BOX, 8, 8) == "[0.250, 0.125, 0.500, 0.750]"
    assert notation("thousandths").write(BOX, 8, 8) == "[250, 125, 500, 750]"
    assert notation("pixels").write(BOX, 8, 8) == "[2, 1, 4, 6]"
    with pytest.raises(UserError, match="unknown notation 'qwen3vl': did you mean 'qwen3_vl'"):
        notation("qwen3vl")
