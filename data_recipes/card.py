"""The dataset card of a mixture in the Hugging Face form: a YAML head for machines, then Markdown for
people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from data_recipes.funnel import table
from data_recipes.records import SPLITS
from data_recipes.tasks import TASKS

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(meta: Mapping[str, Any], rejected: Sequence[str] = ()) -> str:
    """The card of a mixture with this `meta` (the content of `mixture.json`).

    Args:
        meta: as in `mixture.json`; keys that are missing leave their part out.
        rejected: a line for each rejected row.
    """
    recipe = meta.get("recipe", {})
    parts = [
        _head(meta),
        f"# {meta.get('name', 'mixture')}",
        str(recipe.get("description", "")).strip(),
        _counts(meta.get("counts", {})),
        _density(meta.get("density", {})),
        _match(meta.get("match")),
        _splits(recipe),
        _origin(meta),
        _funnel(meta.get("funnel", [])),
        _rejected(rejected),
        "".join(f"- {note}\n" for note in meta.get("notes", [])),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _head(meta: Mapping[str, Any]) -> str:
    entries = sum(split["entries"] for split in meta.get("counts", {}).values())
    head = {
        "pretty_name": meta.get("name", "mixture"),
        "license": meta.get("license", "other"),
        "language": list(meta.get("languages", ["en"])),
        "task_categories": ["image-text-to-text", "visual-question-answering", "image-to-text"],
        "tags": ["medical", "radiology", "chest-x-ray", "multi-task"],
        "size_categories": [next((name for limit, name in _SIZES if entries < limit), "n>1M")],
        "configs": [
            {"config_name": "entries", "data_files": "entries.parquet", "default": True},
            {"config_name": "images", "data_files": "images.parquet"},
        ],
    }
    return "---\n" + yaml.safe_dump(head, sort_keys=False) + "---"


def _counts(counts: Mapping[str, Any]) -> str:
    if not counts:
        return ""
    lines = ["## What it holds", "", f"| split | images | patients | entries | {' | '.join(TASKS)} |"]
    lines.append("|---|" + "---:|" * (3 + len(TASKS)))
    for split in SPLITS:
        row = counts[split]
        numbers = [row["images"], row["patients"], row["entries"], *(row["per_task"][task] for task in TASKS)]
        lines.append(f"| {split} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def _density(density: Mapping[str, float]) -> str:
    if not density:
        return ""
    return (
        f"A training image carries {density['tasks_per_image']:.2f} tasks and "
        f"{density['entries_per_image']:.2f} entries on average."
    )


def _match(match: Mapping[str, Any] | None) -> str:
    if not match:
        return ""
    lines = [
        "## What it is compared with",
        "",
        f"Matched to `{match['to']}` (content hash `{match['mixture_hash'][:12]}`) by **{match['by']}**: "
        f"{match['held_equal']}. Validation and test set are those of `{match['to']}`, image by image.",
        "",
        "| training split | images | entries | tokens | steps |",
        "|---|---:|---:|---:|---:|",
    ]
    for label, key in (("this mixture", "this"), (f"`{match['to']}`", "matched")):
        row = match[key]
        lines.append(f"| {label} | {row['images']} | {row['entries']} | {row['tokens']} | {row['steps']} |")
    lines += [
        "",
        f"Tokens are words and punctuation marks plus {match['image_tokens']} image tokens an entry; steps "
        "are entries trained on, before division by the batch size.",
    ]
    return "\n".join(lines)


def _splits(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    return "## Splits\n\nBy patient: no patient has images in two splits; the build fails otherwise."


def _origin(meta: Mapping[str, Any]) -> str:
    sources = meta.get("sources", {})
    if not sources:
        return ""
    lines = ["## Where it comes from", ""]
    licences = meta.get("licences", {})
    for name, version in sources.items():
        terms = f"; licence: {licences[name]}" if name in licences else ""
        lines.append(f"- source `{name}`, version {version}{terms}")
    lines.append(f"- content hash `{meta.get('mixture_hash', '')}`")
    recipe = yaml.safe_dump(meta.get("recipe", {}), sort_keys=False, allow_unicode=True)
    return "\n".join(lines) + f"\n\nThe recipe:\n\n```yaml\n{recipe}```"


def _funnel(steps: Sequence[Mapping[str, Any]]) -> str:
    if not steps:
        return ""
    lines = [
        "## Where rows went",
        "",
        "Every row that came is kept or dropped for a reason, step by step.",
        "",
        "| source | step | counted | came | kept | dropped |",
        "|---|---|---|---:|---:|---|",
    ]
    cells = (" | ".join(str(cell).replace("|", "/") for cell in row) for row in table(steps))
    return "\n".join([*lines, *(f"| {row} |" for row in cells)])


def _rejected(rejected: Sequence[str], shown: int = 20) -> str:
    if not rejected:
        return "## Rejected rows\n\nNone."
    lines = ["## Rejected rows", "", f"{len(rejected)} rows could not be used (all in `rejected.jsonl`):", ""]
    lines += [f"- {line}" for line in rejected[:shown]]
    return "\n".join(lines + ["- ..."] * (len(rejected) > shown))
