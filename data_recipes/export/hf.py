"""Hugging Face `datasets`: `load_dataset(FOLDER)`, offline; every column that the mixture has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from data_recipes.export.conversation import Export
from data_recipes.export.parquet import Column, splits_of, write_splits

NATIVE = False
HOW_TO = """
```python
from datasets import load_dataset

rows = load_dataset("{folder}")["train"]  # no network
rows[0]["images"][0]                      # a PIL image
rows[0]["messages"]                       # [{{"role": "user", "content": ...}}, {{"role": "assistant", ...}}]
```

`tasks`, `entry_ids`, `provenance` and `boxes` have an item for each pair of turns; `boxes` are exact
fractions [x1, y1, x2, y2] of the image, first those of the prompt. imax-harness reads the folder back with
source `messages`.
"""

_TEXT: Any = {"dtype": "string", "_type": "Value"}
_NUMBER: Any = {"dtype": "float64", "_type": "Value"}


def write(export: Export, folder: Path) -> dict[str, Any]:
    write_splits(export, folder, {**_of_image(), **_of_entries()})
    return {"configs": [{"config_name": "default", "data_files": splits_of(export)}]}


def _of_image() -> dict[str, Column]:
    names = ("image_id", "patient_id", "view", "source")
    return {
        name: Column(pa.string(), _TEXT, lambda talk, name=name: getattr(talk.image, name))  # type: ignore[misc]
        for name in names
    }


def _of_entries() -> dict[str, Column]:
    """Lists with an item an exchange."""
    texts = pa.list_(pa.string())
    return {
        "tasks": Column(texts, [_TEXT], lambda talk: [said.entry.task for said in talk.exchanges]),
        "entry_ids": Column(texts, [_TEXT], lambda talk: [said.entry.entry_id for said in talk.exchanges]),
        "provenance": Column(texts, [_TEXT], lambda talk: [said.entry.provenance for said in talk.exchanges]),
        "boxes": Column(
            pa.list_(pa.list_(pa.list_(pa.float64()))),
            [[[_NUMBER]]],
            lambda talk: [[list(box.xyxy) for box in said.entry.boxes] for said in talk.exchanges],
        ),
    }
