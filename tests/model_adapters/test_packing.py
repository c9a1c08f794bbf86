"""A shared-image sequence gives what separate sequences give."""

import numpy as np
import pytest
import torch

from model_adapters.base import IGNORE
from model_adapters.packing import PADDING, PREFIX, Branch, batch, share, visible
from model_adapters.tiny.describe import describe
from model_adapters.tiny.read import shared_listings


def test_by_hand():
    shared = share([5, 6], [Branch([1], [2, 3]), Branch([4], [7])])
    assert shared.input_ids.tolist() == [5, 6, 1, 2, 3, 4, 7]
    assert shared.labels.tolist() == [IGNORE, IGNORE, IGNORE, 2, 3, IGNORE, 7]
    assert shared.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert shared.owner.tolist() == [PREFIX, PREFIX, 0, 0, 0, 1, 1]
    owner, image = torch.tensor([[PREFIX, 0, 0, 1, PADDING]]), torch.tensor([[1, 1, 1, 1, 0]])
    mask = visible(owner, image)[0].int().tolist()
    assert mask == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_logits_equal_those_of_separate_sequences(adapter, model, scene, image, implementation):
    model.set_attn_implementation(implementation)
    rng = np.random.default_rng(3)
    listings = describe(scene, rng, 5)
    shared = shared_listings(adapter, listings, image.size, rng)
    other = shared_listings(adapter, listings[:1], image.size, rng)  # shorter, so that it is padded
    inputs = adapter.with_mask(batch([[shared], [other]], pad_id=adapter.pad_id), model)
    inputs.pop("labels")
    pixels = adapter.see(image)["pixel_values"]
    with torch.inference_mode():
        together = model(**inputs, pixel_values=pixels.expand(2, -1, -1, -1)).logits
        prefix = int((shared.owner == PREFIX).sum())
        for row, one in enumerate((shared, other)):
            for number in range(int(one.owner.max()) + 1):
                where = (one.owner == PREFIX) | (one.owner == number)
                alone = model(input_ids=one.input_ids[where][None], pixel_values=pixels).logits[0]
                packed = together[row, : len(where)][where]
                assert torch.allclose(packed[prefix:], alone[prefix:], atol=1e-4)
    model.set_attn_implementation("sdpa")


def test_branches_are_the_conversations_of_the_adapter(adapter, scene, image):
    rng = np.random.default_rng(4)
    listings = describe(scene, rng, 12)
    shared = shared_listings(adapter, listings, image.size, rng)
    for number, listing in enumerate(listings):
        where = (shared.owner == PREFIX) | (shared.owner == number)
        boxes = [adapter.codec.write(box, *image.size) for box in listing.boxes]
        asked = listing.header.count("{box}")
        header, text = listing.header, listing.text
        for box in boxes[:asked]:
            header = header.replace("{box}", box, 1)
        for box in boxes[asked:]:
            text = text.replace("{box}", box, 1)
        assert shared.input_ids[where].tolist() == adapter.conversation_ids(header, text, adapter.see(image))
        trained = shared.labels[(shared.owner == number) & (shared.labels != IGNORE)]
        assert adapter.decode(trained) == text
        assert trained[-1] == adapter.end_id
