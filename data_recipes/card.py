"""The dataset card of a mixture in the Hugging Face form: a YAML head for machines, then Markdown for
people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from data_recipes import priors as prior_table
from data_recipes.funnel import table
from data_recipes.licence import ACCESS, Licence, licence
from data_recipes.markdown import plain
from data_recipes.pseudo import table as pseudo_table
from data_recipes.records import SPLITS
from data_recipes.tasks import TASKS

# The field's own size classes (dataset cards of the Hugging Face hub), by number of entries.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
WHOLE = "mixture"  # the one split of the tables for `datasets.load_dataset`
_CATEGORIES: dict[str, Collection[str]] = {
    "image-text-to-text": TASKS,
    "visual-question-answering": ("calculation", "severity", "vqa"),
    "image-to-text": ("report", "reg"),
    "image-classification": ("severity", "findings"),
    "object-detection": ("rec",),
}


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
        _pseudo(meta.get("pseudo", {})),
        _copies(meta.get("near_duplicates")),
        _priors(meta.get("priors", [])),
        _splits(recipe),
        _use(meta),
        _terms(meta.get("licences", {})),
        _origin(meta),
        _funnel(meta.get("funnel", [])),
        _rejected(rejected),
        "".join(f"- {plain(note)}\n" for note in meta.get("notes", [])),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _head(meta: Mapping[str, Any]) -> str:
    counts = meta.get("counts", {}).values()
    entries = sum(split["entries"] for split in counts)
    held = {task for split in counts for task, number in split["per_task"].items() if number}
    terms = meta.get("license", "other")
    head = {
        "pretty_name": meta.get("name", "mixture"),
        "license": terms,
        **({"license_name": "terms-of-the-sources"} if terms == "other" else {}),
        "language": list(meta.get("languages", ["en"])),
        "task_categories": [name for name, tasks in _CATEGORIES.items() if held & set(tasks)],
        "tags": ["medical", "radiology", "chest-x-ray", "multi-task"],
        "size_categories": [next((name for limit, name in _SIZES if entries < limit), "100M<n<1B")],
        # All rows of both tables are one split there: which split a row belongs to, `images` says.
        "configs": [
            {"config_name": name, "data_files": [{"split": WHOLE, "path": f"{name}.parquet"}]}
            | ({"default": True} if name == "entries" else {})
            for name in ("entries", "images")
        ],
    }
    return "---\n" + yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "---"


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
    if tasks := volumes(match):
        lines += ["", "| task | this mixture | matched | |", "|---|---:|---:|---|"]
        lines += [f"| {' | '.join(row)} |" for row in tasks]
    if said := apart(match):
        lines += ["", said]
    return "\n".join(lines)


def volumes(match: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Training entries of each task, here and in the matched mixture, and what its source lacks."""
    ours, theirs = (match[key].get("per_task", {}) for key in ("this", "matched"))
    short = match.get("short", {})
    return [
        (task, str(ours.get(task, 0)), str(theirs.get(task, 0)), "short" if task in short else "")
        for task in TASKS
        if task in ours or task in theirs
    ]


def apart(match: Mapping[str, Any]) -> str:
    """The check that training shares nothing with the matched mixture, as a sentence; "" where an older
    version built the mixture."""
    found = match.get("disjoint")
    if not found:
        return ""
    by = f"compared by their pixels: {found['compared']}" if found["compared"] else "pixels were not compared"
    return (
        f"Training images in common with {match['to']}, all splits: {found['images']} by id, "
        f"{found['copies']} copies ({by}); patients: {found['patients']}."
    )


def _pseudo(tasks: Mapping[str, Any]) -> str:
    """How good the pseudo-labels are."""
    if not tasks:
        return ""
    lines = [
        "## Pseudo-labels",
        "",
        pseudo_table.LEGEND,
        "",
        f"| {' | '.join(pseudo_table.HEADINGS)} |",
        "|---|" + "---:|" * (len(pseudo_table.HEADINGS) - 2) + "---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in pseudo_table.rows(tasks))])


def _copies(found: Mapping[str, Any] | None) -> str:
    return f"## Near-duplicates\n\n{copies(found)}" if found else ""


def copies(found: Mapping[str, Any] | None) -> str:
    """What is known of near-duplicates, as a sentence."""
    if found is None:
        return "Near-duplicates: not looked for when this mixture was built."
    if not found["compared"]:
        return "Near-duplicates: no image has pixels."
    return (
        f"Pairs of near-duplicates among {found['compared']} images: {found['across']} in two splits, "
        f"{found['within']} within a split."
    )


def _priors(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        "## What the text alone answers",
        "",
        "How often the most common training answer is right on held-out entries: of the kind of "
        "prompt, and of the phrase or question in it. Bits: the entropy of training answers.",
        "",
        f"| {' | '.join(prior_table.HEADINGS)} |",
        "|---|" + "---:|" * (len(prior_table.HEADINGS) - 1),
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in prior_table.table(rows))])


def _splits(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    return "## Splits\n\nBy patient: no patient has images in two splits; the build fails otherwise."


def _use(meta: Mapping[str, Any]) -> str:
    if not meta.get("counts"):
        return ""
    return f"""## How to load it

`imax recipe stats FOLDER` and `imax train --recipe FOLDER`; or, with pandas to join the splits,

```python
from datasets import load_dataset

entries = load_dataset("FOLDER", "entries", split="{WHOLE}").to_pandas()
images = load_dataset("FOLDER", "images", split="{WHOLE}").to_pandas()
rows = entries.merge(images, on="image_id")  # rows.split is train, validation or test
```

Boxes are `[x1, y1, x2, y2]` as fractions of the image and fill the `{{box}}` slots of the prompt, then of the
target."""


def _terms(licences: Mapping[str, Any]) -> str:
    """Licence, access, what may be passed on and what to cite, source by source."""
    if not licences:
        return ""
    lines = ["## Licences and citations", "", "A mixture is under the terms of all of its sources."]
    for name, said in licences.items():
        lines += ["", *_term(name, licence(said))]
    return "\n".join(lines)


def _term(name: str, terms: Licence) -> list[str]:
    lines = [
        f"### {name}",
        "",
        f"- licence: {plain(terms.name)}",
        f"- access: {ACCESS[terms.access]}",
        f"- what may be passed on: {plain(terms.share)}",
    ]
    lines += [f"- publisher's page: {terms.page}"] if terms.page else []
    if terms.cite:
        lines += [f"- cite: {plain(terms.cite.text)}", "", "```bibtex", terms.cite.bibtex, "```"]
    return lines


def _origin(meta: Mapping[str, Any]) -> str:
    sources = meta.get("sources", {})
    if not sources:
        return ""
    lines = ["## Where it comes from", ""]
    lines += [f"- source `{name}`, version {version}" for name, version in sources.items()]
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
    cells = (" | ".join(plain(str(cell)) for cell in row) for row in table(steps))
    return "\n".join([*lines, *(f"| {row} |" for row in cells)])


def _rejected(rejected: Sequence[str], shown: int = 20) -> str:
    if not rejected:
        return "## Rejected rows\n\nNone."
    lines = ["## Rejected rows", "", f"{len(rejected)} rows could not be used (all in `rejected.jsonl`):", ""]
    lines += [f"- {plain(line)}" for line in rejected[:shown]]
    return "\n".join(lines + ["- ..."] * (len(rejected) > shown))
