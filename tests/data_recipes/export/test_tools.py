"""Exports in the tools themselves, where they are installed; docs/recipe-export.md tells what was run of the
others."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_recipes.export import export
from data_recipes.recipe import mixture_folder

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def mixture(fake) -> Path:
    images = {"train": 3, "validation": 1, "test": 1}
    changes = {"source": "fake", "options": {}, "density": None, "images": images}
    return mixture_folder("imax", changes, progress=False)


def load(folder: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_datasets_loads_the_folder_with_splits_and_images(mixture, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export("hf", str(mixture), tmp_path / "out", turns="image", progress=False)
    rows = load(tmp_path / "out", tmp_path)
    assert {split: len(part) for split, part in rows.items()} == {"train": 3, "validation": 1, "test": 1}
    row = rows["train"][0]
    assert row["images"][0].size == (8, 8)
    assert [m["role"] for m in row["messages"][:2]] == ["user", "assistant"]
    assert len(row["tasks"]) == len(row["entry_ids"]) == len(row["boxes"]) == len(row["messages"]) // 2
    assert row["boxes"][row["tasks"].index("rec")] == [[0.25, 0.25, 0.5, 0.75]]


@pytest.mark.slow
@pytest.mark.parametrize("turns", ["entry", "image"])
def test_trl_trains_a_step_and_evaluates(mixture, tmp_path, monkeypatch, turns):
    trl = pytest.importorskip("trl")
    from transformers import AutoModelForImageTextToText, AutoProcessor

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export("trl", str(mixture), tmp_path / "out", turns=turns, progress=False)
    rows = load(tmp_path / "out", tmp_path)
    checkpoint = ROOT / "model_adapters" / "tiny" / "checkpoint"
    trainer = trl.SFTTrainer(
        model=AutoModelForImageTextToText.from_pretrained(checkpoint),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=1,
            per_device_train_batch_size=2,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to=[],
        ),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=AutoProcessor.from_pretrained(checkpoint),
    )
    assert trainer.train().training_loss > 0
    assert trainer.evaluate()["eval_loss"] > 0
