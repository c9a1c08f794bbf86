"""The table of models, in code and in the docs."""

from pathlib import Path

import pytest

from data_recipes.errors import UserError
from model_adapters.models import MODELS, memory_to_train, table
from model_adapters.registry import FAMILIES, load_adapter

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_docs_show_the_table_of_the_code():
    assert table() in (DOCS / "models.md").read_text(encoding="utf-8")


def test_every_family_has_a_model_and_every_model_a_family():
    assert {model.family for model in MODELS} == set(FAMILIES)
    assert len({model.name for model in MODELS}) == len(MODELS)


def test_memory_falls_with_the_bits_kept():
    for model in MODELS[1:]:
        needs = [memory_to_train(model.billions, kept) for kept in ("bf16", "8bit", "4bit")]
        assert needs == sorted(needs, reverse=True)
    assert memory_to_train(7.0, "bf16") == pytest.approx(7.0 * 2 + 5)


def test_a_model_without_a_hub_id_says_how_to_get_it():
    with pytest.raises(UserError, match="'radvlm' is on no hub: download from PhysioNet"):
        load_adapter("radvlm")
