"""The Gram matrix of entries' gradients against a loop over batches of one and against torchjd, in all families."""

import pytest
import torch
from torchjd.autogram import Engine

from model_adapters.registry import FAMILIES, load_adapter
from taco_probe.dynamics.gram import measure
from taco_probe.dynamics.losses import EntryLosses, image_rows
from tests.taco_probe.dynamics.conftest import batches, encode, loop, with_lora


def near(ours, theirs, tolerance=1e-5):
    """By the largest entry, as spectra see it."""
    off = float((ours - theirs).abs().max() / theirs.abs().max())
    assert off < tolerance, off


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gram_matrix_is_that_of_a_loop_and_of_torchjd(flavour_folder, family):
    adapter = load_adapter(str(flavour_folder(family)))
    model, features = with_lora(adapter), encode(adapter, 5)
    lengths = {len(feature["input_ids"]) for feature in features}
    assert len(lengths) > 1
    losses = EntryLosses("token_mean")
    rows = loop(model, features, adapter, losses)
    expected = rows @ rows.T
    for size in (5, 2):
        near(measure(model, batches(adapter, features, size), losses).pooled(), expected)
    model.eval()
    (whole,) = batches(adapter, features, 5)
    engine = Engine(model.get_base_model().model.language_model, batch_dim=None)
    near(engine.compute_gramian(losses(model, whole)).double(), expected)
