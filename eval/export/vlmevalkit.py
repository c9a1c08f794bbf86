"""The benchmark as a dataset of VLMEvalKit: a TSV with images, a class file to drop in, and what that class
calls to score a prediction file.

VLMEvalKit keeps tables in pandas, whose readers turn texts such as "None" or "0.50" into other things; so
everything is read here as text, and truths come from the TSV's column `entry`, never from a prediction file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from eval.export.benchmark import Benchmark, from_row, readme, to_row, write_images
from eval.predictions import CanonicalBoxes, Problems, answers_from_outputs
from eval.runs import write_json
from eval.scores import score

_CLASS = '''"""{name} for VLMEvalKit, parsed and scored by imax-harness."""

from vlmeval.dataset.image_base import ImageBaseDataset
from vlmeval.smp import LMUDataRoot

from eval.export import vlmevalkit


class ImaxHarnessBenchmark(ImageBaseDataset):
    TYPE = "VQA"
    DATASET_URL = {{"{name}": ""}}  # nothing to download: the TSV lies in LMUData
    DATASET_MD5 = {{"{name}": "{md5}"}}

    def load_data(self, dataset):
        return vlmevalkit.table(LMUDataRoot(), dataset, self.DATASET_MD5[dataset])

    def evaluate(self, eval_file, **judge_kwargs):
        return vlmevalkit.evaluate(self.data, eval_file)
'''

_HOW_TO = """## Run it

In an environment with VLMEvalKit and imax-harness:

1. copy `{name}.tsv` into the folder `LMUData` (or set the variable `LMUData` to this folder);
2. copy `{name}.py` into `vlmeval/dataset/`, and in `vlmeval/dataset/__init__.py` add
   `from .{name} import ImaxHarnessBenchmark` and `ImaxHarnessBenchmark` to the list `IMAGE_DATASET`;
3. `python run.py --data {name} --model MODEL`.

No judge model is asked. Beside the prediction file, `..._scores.json` holds every metric with its 95 %
interval over patients; the printed table holds the values, `overall` being the mean of the tasks' headlines.
"""


# With `image_path` VLMEvalKit unpacks a PNG file an image; without, some versions a JPEG file a row.
_COLUMNS = ("index", "image", "image_path", "question", "answer", "category", "l2-category", "split", "entry")


def write(benchmark: Benchmark, folder: Path) -> None:
    """The TSV, the class file and a README."""
    images = folder / "images"
    write_images(benchmark, images)
    path = folder / f"{benchmark.name}.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        first: dict[str, int] = {}
        for index, (image, entry) in enumerate(benchmark.pairs):
            row = to_row(image, entry)
            # The format's own way to hold an image once: later rows name the row that has it.
            pixels = str(first.setdefault(image.image_id, index))
            if pixels == str(index):
                pixels = base64.b64encode((images / row["image_file"]).read_bytes()).decode()
            question = f"{row['question']} {benchmark.instructions[entry.task]}".strip()
            kinds = [entry.task, entry.kind, benchmark.split]
            carried = json.dumps(row, ensure_ascii=False)
            writer.writerow([index, pixels, row["image_file"], question, row["answer"], *kinds, carried])
    for file_ in images.iterdir():
        file_.unlink()
    images.rmdir()
    # Nothing of the mixture's own words goes into code: the name is an identifier of our making.
    code = _CLASS.format(name=benchmark.name, md5=_md5(path))
    write_text(code, folder / f"{benchmark.name}.py")
    write_json(folder / "benchmark.json", benchmark.facts)
    write_text(readme(benchmark, _HOW_TO.format(name=benchmark.name)), folder / "README.md")


def table(root: str, name: str, md5: str) -> pd.DataFrame:
    """The TSV of a dataset under VLMEvalKit's data folder, every column as text.

    Raises:
        UserError: it is missing, or not the one that was exported with the class file.
    """
    path = Path(root) / f"{name}.tsv"
    if not path.is_file():
        raise UserError(f"{path} is missing: copy the exported {name}.tsv there")
    if _md5(path) != md5:
        raise UserError(
            f"{path} is not the file that this class was exported with: copy both from one export"
        )
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def evaluate(data: pd.DataFrame, eval_file: str) -> dict[str, float]:
    """Scores a prediction file and writes every metric with its interval to `..._scores.json` beside it.

    Args:
        data: the dataset's rows, with columns `index` and `entry`.
        eval_file: the rows with a column `prediction`, as .xlsx, .tsv or .json. A row of `data` that is not
            in it counts as wrong.

    Returns:
        "overall", the mean of the headlines, and each metric as "task/metric".

    Raises:
        UserError: the file cannot be read.
    """
    pairs = {str(row["index"]): from_row(json.loads(row["entry"])) for row in data.to_dict("records")}
    problems = Problems()
    outputs: dict[str, str] = {}
    for row in _rows(Path(eval_file)):
        if (index := str(row["index"])) in pairs:
            text = row["prediction"]
            outputs[pairs[index][1].entry_id] = text if isinstance(text, str) else ""
        else:
            problems.add("unknown index, left out", index)
    for _, entry in pairs.values():
        if entry.entry_id not in outputs:
            problems.add("entry without a prediction, counts as wrong", entry.entry_id)
    for line in problems.lines():
        print(f"{eval_file}: {line}")
    scores = score(answers_from_outputs(pairs.values(), outputs, CanonicalBoxes()))
    content = {
        "tasks": {task: scored.to_json() for task, scored in scores.tasks.items()},
        "multi_task_average": scores.average.to_json(),
        "test_hash": scores.test_hash,
        "problems": dict(problems.counts),
    }
    path = Path(eval_file)
    write_json(path.with_name(f"{path.stem}_scores.json"), content)
    values = {
        f"{task}/{name}": estimate.value
        for task, scored in scores.tasks.items()
        for name, estimate in scored.estimates.items()
    }
    return {"overall": scores.average.value, **values}


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        match path.suffix:
            case ".xlsx":
                frame = pd.read_excel(path, dtype=str, keep_default_na=False)
            case ".tsv":
                frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
            case ".json":
                frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
            case other:
                raise UserError(f"{path}: a prediction file is .xlsx, .tsv or .json, not {other!r}")
        if missing := {"index", "prediction"} - set(frame.columns):
            raise UserError(f"{path}: the column {', '.join(sorted(missing))} is missing")
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: can't read predictions: {error}") from None
    return [
        {"index": i, "prediction": text} for i, text in zip(frame["index"], frame["prediction"], strict=True)
    ]


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
