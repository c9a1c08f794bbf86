"""The benchmark as tasks of lmms-eval: what `write` puts into the folder, and what the folder's `utils.py`
calls while lmms-eval runs.

Each metric is aggregated over all outputs of its task by this project's own code, because macro F1 or BLEU
are no means of values per document. The group's only metric is the mean of the tasks' headlines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import yaml

from data_recipes.tables import read_rows, write_parquet, write_text
from eval.answers import known
from eval.export.benchmark import (
    MAX_NEW_TOKENS,
    Benchmark,
    Pair,
    from_row,
    readme,
    to_row,
    write_images,
)
from eval.metrics import Metric
from eval.predictions import CanonicalBoxes, answers_from_outputs
from eval.tasks import metrics

HEADLINE = "headline"  # a second name of each task's first metric: groups average metrics of one name

_UTILS = '''"""What lmms-eval calls for the tasks of this folder; imax-harness parses and scores."""

from pathlib import Path

from eval.export import lmms

FOLDER = Path(__file__).resolve().parent


def doc_to_visual(doc):
    return [lmms.image(FOLDER, doc)]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return lmms.text(doc, lmms_eval_specific_kwargs or {})


def process_results(doc, results):
    return lmms.items(FOLDER, doc, results[0])


def aggregate(items):
    return lmms.value(FOLDER, items)
'''

_HOW_TO = """## Run it

In an environment with lmms-eval (written for 0.7.3) and imax-harness:

```sh
python -m lmms_eval --model MODEL --model_args pretrained=CHECKPOINT --batch_size 1 \\
    --include_path THIS_FOLDER --tasks {name} --log_samples --output_path logs
```

`{name}` runs all tasks and prints the mean of their headlines; each task has its own name too: {tasks}.
lmms-eval prints no interval. For 95 % intervals over patients, turn the samples it logged into a predictions
file

```sh
python -m eval.export.logged logs > predictions.jsonl
imax eval MODEL --mixture {mixture} --predictions predictions.jsonl --notation canonical
```

where MODEL is the name that the scores go under. To change what prompts end with, edit `post_prompt` in the
YAML files.
"""


class _Function(str):
    """A name that lmms-eval resolves to a function of `utils.py`."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def write(benchmark: Benchmark, folder: Path) -> None:
    """Task files, a group, `utils.py`, a Parquet file a task, images and a README."""
    (folder / "data").mkdir()
    write_images(benchmark, folder / "images")
    for task in benchmark.tasks:
        rows = [to_row(image, entry) for image, entry in benchmark.of_task(task)]
        write_parquet(pa.Table.from_pylist(rows, _COLUMNS), folder / "data" / f"{task}.parquet")
        _write_yaml(_task(benchmark, task), folder / f"{_name(benchmark, task)}.yaml")
    _write_yaml(_group(benchmark), folder / f"{benchmark.name}.yaml")
    write_text(_UTILS, folder / "utils.py")
    how_to = _HOW_TO.format(
        name=benchmark.name,
        mixture=benchmark.mixture.meta.get("name"),
        tasks=", ".join(f"`{_name(benchmark, task)}`" for task in benchmark.tasks),
    )
    write_text(readme(benchmark, how_to), folder / "README.md")


_COLUMNS = pa.schema(
    [
        (name, pa.string())
        for name in ("entry_id", "image_id", "patient_id", "task", "question", "answer", "image_file")
    ]
    + [("width", pa.int64()), ("height", pa.int64()), ("prompt", pa.string()), ("target", pa.string())]
    + [("boxes", pa.list_(pa.list_(pa.float64()))), ("provenance", pa.string())]
)


def _name(benchmark: Benchmark, task: str) -> str:
    return f"{benchmark.name}_{task}"


def _metadata(benchmark: Benchmark) -> dict[str, Any]:
    return {"version": str(benchmark.facts["mixture_hash"])[:12], **benchmark.facts}


def _task(benchmark: Benchmark, task: str) -> dict[str, Any]:
    found = _applicable(task, benchmark.of_task(task))
    listed = [(HEADLINE, found[0]), *((metric.name, metric) for metric in found)]
    instruction = benchmark.instructions[task]
    return {
        "task": _name(benchmark, task),
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": f"data/{task}.parquet"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": _Function("utils.doc_to_visual"),
        "doc_to_text": _Function("utils.doc_to_text"),
        "doc_to_target": "answer",
        "process_results": _Function("utils.process_results"),
        # Without `until` lmms-eval would cut an answer at its first empty line.
        "generation_kwargs": {
            "max_new_tokens": MAX_NEW_TOKENS[task],
            "do_sample": False,
            "temperature": 0,
            "until": ["</s>"],
        },
        "lmms_eval_specific_kwargs": {
            "default": {"pre_prompt": "", "post_prompt": f" {instruction}" if instruction else ""}
        },
        "metric_list": [
            {
                "metric": name,
                "aggregation": _Function("utils.aggregate"),
                "higher_is_better": metric.higher_is_better,
            }
            for name, metric in listed
        ],
        "metadata": _metadata(benchmark),
    }


def _group(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "group": benchmark.name,
        "task": [_name(benchmark, task) for task in benchmark.tasks],
        "aggregate_metric_list": [{"metric": HEADLINE, "aggregation": "mean", "weight_by_size": False}],
        "metadata": _metadata(benchmark),
    }


def _write_yaml(content: Mapping[str, Any], path: Path) -> None:
    write_text(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110), path)


def _applicable(task: str, pairs: Sequence[Pair]) -> list[Metric]:
    """The metrics of a task that have something to judge, the headline first."""
    answers = known(pairs)
    return [metric for metric in metrics(task, answers) if any(metric.where(answer) for answer in answers)]


# While lmms-eval runs. `folder` is that of the export.


def image(folder: Path, doc: Mapping[str, Any]) -> PIL.Image.Image:
    """The document's image, mode "RGB"."""
    with PIL.Image.open(folder / "images" / doc["image_file"]) as found:
        return found.convert("RGB")


def text(doc: Mapping[str, Any], kwargs: Mapping[str, Any]) -> str:
    """The question between `pre_prompt` and `post_prompt`."""
    return f"{kwargs.get('pre_prompt', '')}{doc['question']}{kwargs.get('post_prompt', '')}"


def items(folder: Path, doc: Mapping[str, Any], output: str) -> dict[str, dict[str, str]]:
    """One item for each metric of the document's task; lmms-eval collects those of a metric in a list and
    hands them to `value`, which learns from the item which metric that is."""
    return {
        name: {"metric": name, "entry_id": doc["entry_id"], "output": output}
        for name in _metric_names(folder, doc["task"])
    }


def value(folder: Path, items: Sequence[Mapping[str, str]]) -> float | str:
    """The metric over the outputs of one task; "N/A" where none of them is of its kind (under `--limit`)."""
    outputs = {item["entry_id"]: item["output"] for item in items}
    pairs = [_pairs(folder)[entry_id] for entry_id in outputs]
    answers = answers_from_outputs(pairs, outputs, CanonicalBoxes())
    found = metrics(pairs[0][1].task, answers)
    name = items[0]["metric"]
    chosen = [metric for metric in found if metric.name == name] if name != HEADLINE else found[:1]
    result = chosen[0].value(answers) if chosen else math.nan
    return result if math.isfinite(result) else "N/A"


@lru_cache(maxsize=8)
def _pairs(folder: Path) -> dict[str, Pair]:
    """entry_id -> image and entry, of all tasks of an export."""
    rows = [row for path in sorted((folder / "data").glob("*.parquet")) for _, row in read_rows(path)]
    return {row["entry_id"]: from_row(row) for row in rows}


@lru_cache(maxsize=64)
def _metric_names(folder: Path, task: str) -> tuple[str, ...]:
    pairs = [pair for pair in _pairs(folder).values() if pair[1].task == task]
    return (HEADLINE, *(metric.name for metric in _applicable(task, pairs)))
