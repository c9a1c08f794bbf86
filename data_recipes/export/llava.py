"""LLaVA's own format: a JSON list a split of `id`, `image` and `conversations` with `<image>`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_recipes.export.conversation import Export
from data_recipes.export.files import write_images, write_list

NATIVE = False
HOW_TO = """
```sh
python llava/train/train_mem.py --data_path {folder}/train.json --image_folder {folder} ...
```
"""
_WHO = {"user": "human", "assistant": "gpt"}


def write(export: Export, folder: Path) -> dict[str, Any]:
    paths = write_images(export, folder)
    for split, talks in export.splits.items():
        rows = (
            {
                "id": talk.name,
                "image": paths[talk.image.image_id],
                "conversations": [
                    {"from": _WHO[role], "value": text} for role, text in talk.turns("<image>\n")
                ],
            }
            for talk in talks
        )
        write_list(rows, folder / f"{split}.json", lines=False)
    return {}
