"""LLaMA-Factory: a JSON file a split in its `sharegpt` format, and `dataset_info.json`, which names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_recipes.export.conversation import Export
from data_recipes.export.files import write_images, write_list

NATIVE = False
HOW_TO = """
```yaml
# llamafactory-cli train FILE.yaml
dataset_dir: {folder}
media_dir: {folder}
dataset: {name}_train
eval_dataset: {name}_validation
image_max_pixels: 12845056  # its default of 768 x 768 shrinks larger images
```

Notations that count pixels (qwen2_5_vl) hold only where no image is shrunk first: set `image_max_pixels` as
above.
"""
_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


def write(export: Export, folder: Path) -> dict[str, Any]:
    paths = write_images(export, folder)
    info = {}
    for split, talks in export.splits.items():
        rows = (
            {"messages": talk.messages("<image>"), "images": [paths[talk.image.image_id]]} for talk in talks
        )
        write_list(rows, folder / f"{split}.json", lines=False)
        info[f"{export.name}_{split}"] = {
            "file_name": f"{split}.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": _TAGS,
        }
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    return {}
