"""ms-swift: a JSON Lines file a split with `messages` and `images`; boxes in text, or as its `objects`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_recipes.export.conversation import Conversation, Export
from data_recipes.export.files import write_images, write_list

NATIVE = True
HOW_TO = """
```sh
export ROOT_IMAGE_DIR={folder}
swift sft --model MODEL --dataset {folder}/train.jsonl --val_dataset {folder}/validation.jsonl
```

Image paths are relative; ms-swift looks for them below `ROOT_IMAGE_DIR`. With `--notation native` boxes are
`objects`, fractions of the image, which ms-swift itself writes in the model's own notation.
"""


def write(export: Export, folder: Path) -> dict[str, Any]:
    paths = write_images(export, folder)
    for split, talks in export.splits.items():
        rows = (_row(talk, paths[talk.image.image_id], export.notation == "native") for talk in talks)
        write_list(rows, folder / f"{split}.jsonl", lines=True)
    return {}


def _row(talk: Conversation, path: str, native: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": talk.messages("<image>"), "images": [path]}
    if native:
        for message in row["messages"]:
            message["content"] = message["content"].replace("\0", "<bbox>")
        boxes = [list(box.xyxy) for box in talk.boxes]
        row["objects"] = {"ref": [], "bbox": boxes, "bbox_type": "norm1"}  # fractions of the image
    return row
