"""Writes the README's tree: a line a file, in the words of its own first line.

python docs/make_tree.py [--check]      --check changes nothing and fails when the tree is out of date
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD, TAIL = "## The tree\n", "## Licence\n"
FOLDERS = ("data_recipes", "model_adapters", "eval", "taco_probe", "harness", "benchmarks", "docs", "tests")
# Files that cannot say themselves what they are.
ABOUT = {
    "data_recipes/recipes/imax.yaml": "image-centric phantom mixture",
    "data_recipes/recipes/dmax.yaml": "its decentralised counterpart, matched in entries",
    "data_recipes/recipes/dmax_open.yaml": "decentralised mixture of public datasets, matched to imax_nih",
    "data_recipes/recipes/imax_ct.yaml": "image-centric mixture of radiographs of a real CT",
    "model_adapters/tiny/checkpoint": "the weights (float16), tokenizer and processor of `tiny`",
    "docs/architecture.md": "an entry's way from recipe to report",
    "docs/sharing.md": "one sequence for all entries of an image: flags, loss weights, what cannot be equal",
    "docs/clinical.md": "the rule labeller of chest reports: rules, agreement with other labels, limits",
    "docs/dynamics.md": "optimisation dynamics: every quantity, its formula, its cost",
    "docs/export.md": "the benchmark in lmms-eval and VLMEvalKit",
    "docs/recipe-export.md": "mixtures in datasets, TRL, LLaMA-Factory, ms-swift, LLaVA; what was run",
    "docs/generation.md": "how answers are generated: shared prefixes, several processes, vLLM",
    "docs/metrics.md": "every metric, intervals, comparisons, seeds",
    "docs/metrics-outside.md": "RadGraph, CheXbert, RaTEScore, GREEN and others, merged into the scores",
    "docs/study.md": "recipes x models x seeds: the study file, its folder, its report",
    "docs/gallery.png": "sixteen phantom radiographs",
    "docs/taco.md": "visual tasks, failures and trajectories; datasets of images and masks; training",
    "docs/taco-analysis.md": "retrieval across datasets, controls, baselines, clusters: what is measured",
    "docs/taco-atlas.md": "how to read the atlas; distances, tree, trajectories and sensitivity defined",
    "docs/taco-use.md": "does distance predict transfer; what a new folder is like",
    "docs/taco-tasks.png": "the thirty visual tasks on real images",
    "taco_probe/taco/table.csv": "53 public datasets: modality, labels, licence, place",
    "tests/": "mirror the folders above",
    ".ci/run": "what must hold before a change lands",
    "Makefile": "demo, test, slow, lint",
    "constraints.txt": "the versions everything was tested with",
}


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    for stop in (": ", ". "):
        if len(paragraph) > 110 and stop in paragraph:
            paragraph = paragraph.split(stop)[0]
    return paragraph.rstrip(".:")


def tracked(folder: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def tree() -> str:
    lines = []
    for folder in FOLDERS:
        if folder == "tests":
            lines.append(f"tests/  {ABOUT['tests/']}")
            continue
        names = tracked(folder)
        if not names:
            continue
        init = ROOT / folder / "__init__.py"
        lines.append(f"{folder}/  {first_line(init) if init.exists() else ''}".rstrip())
        for name in sorted(names, key=lambda n: (n.count("/"), n)):
            about = ABOUT.get(name) or (first_line(ROOT / name) if name.endswith(".py") else "")
            if about and name != f"{folder}/__init__.py":
                lines.append(f"    {name.removeprefix(folder + '/'):<32}{about}")
        if folder == "model_adapters":
            lines.append(f"    {'tiny/checkpoint/':<32}{ABOUT['model_adapters/tiny/checkpoint']}")
    lines += [f"{name:<36}{ABOUT[name]}" for name in ("Makefile", ".ci/run", "constraints.txt")]
    return "```\n" + "\n".join(lines) + "\n```\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when out of date")
    asked = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, after = text.split(HEAD)[0], text.split(TAIL)[1]
    new = f"{before}{HEAD}\n{tree()}\n{TAIL}{after}"
    if asked.check:
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
