"""The benchmark as a task of other evaluation harnesses: `imax eval --format lmms-eval|vlmevalkit`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from data_recipes.errors import unknown
from data_recipes.staging import staged
from eval.export.benchmark import Benchmark, read_benchmark

# format -> module with `write`
FORMATS = {"lmms-eval": "eval.export.lmms", "vlmevalkit": "eval.export.vlmevalkit"}


class Format(Protocol):
    """What each module of FORMATS offers."""

    def write(self, benchmark: Benchmark, folder: Path) -> None:
        """Writes the benchmark into an empty folder, as files that the other harness reads."""
        ...


def export(
    name: str,
    mixture: str,
    folder: Path | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    instructions: bool = True,
    progress: bool = True,
) -> tuple[Benchmark, Path]:
    """Exports one split of a mixture. A kill leaves no half-written folder under the final name.

    Args:
        name: a key of FORMATS.
        mixture: recipe name, recipe file or built folder.
        folder: where the export goes; by default `exports/<benchmark>-<format>`.
        limit: export this many images only, evenly spaced.
        instructions: whether prompts end with the form of answer that the task reads.

    Raises:
        UserError: no such format, mixture or split; the mixture holds no pixels; the folder has content.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    benchmark = read_benchmark(
        mixture, split=split, limit=limit, instructions=instructions, progress=progress
    )
    out = folder or Path("exports") / f"{benchmark.name}-{name}"
    with staged(out, "--output_dir") as part:
        cast(Format, importlib.import_module(FORMATS[name])).write(benchmark, part)
    return benchmark, out
