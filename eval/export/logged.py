"""Outputs that lmms-eval logged, as a predictions file.

python -m eval.export.logged LOGS > predictions.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from data_recipes.errors import UserError
from data_recipes.tables import read_rows
from eval.export.lmms import HEADLINE


def outputs(folder: Path) -> Iterator[dict[str, str]]:
    """`entry_id` and `output` of each sample logged under a folder (lmms-eval's `--output_path`).

    Raises:
        UserError: there are no samples, they are not those of an export, or an entry was logged twice.
    """
    files = sorted(folder.rglob("*_samples_*.jsonl"))
    if not files:
        raise UserError(f"{folder}: no *_samples_*.jsonl here: run lmms_eval with --log_samples")
    seen: dict[str, Path] = {}
    for path in files:
        for number, sample in read_rows(path):
            try:
                row = {key: str(sample[HEADLINE][key]) for key in ("entry_id", "output")}
            except (KeyError, TypeError):
                raise UserError(f"{path}, line {number}: not a sample of an exported task") from None
            if row["entry_id"] in seen:
                raise UserError(
                    f"{path}: entry {row['entry_id']} is in {seen[row['entry_id']]} too: these are several "
                    "runs, name the folder of one"
                )
            seen[row["entry_id"]] = path
            yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("logs", type=Path, help="the folder that lmms_eval was given as --output_path")
    try:
        for row in outputs(parser.parse_args().logs):
            print(json.dumps(row, ensure_ascii=False))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
