"""TRL's SFTTrainer: Parquet files of `images` and `messages`, read by `load_dataset(FOLDER)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_recipes.export.conversation import Export
from data_recipes.export.parquet import splits_of, write_splits

NATIVE = False
HOW_TO = """
```python
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("{folder}")
trainer = SFTTrainer(
    model=MODEL,
    args=SFTConfig(assistant_only_loss=True, max_length=None),
    train_dataset=rows["train"],
    eval_dataset=rows["validation"],
)
```

`assistant_only_loss` keeps prompts out of the loss; it needs a chat template with `{{% generation %}}`
markers (TRL brings those of well-known families). Cutting sequences would cut image tokens: keep
`max_length=None`.
"""


def write(export: Export, folder: Path) -> dict[str, Any]:
    write_splits(export, folder, {})
    return {"configs": [{"config_name": "default", "data_files": splits_of(export)}]}
