"""`imax tiny`: a family's tiny flavour as a checkpoint folder, to check a path without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import be_quiet
from harness.runs import refuse_taken


def tiny(
    family: Annotated[
        str,
        typer.Argument(help="llava, llava_onevision, qwen2_vl, qwen2_5_vl, qwen3_vl, gemma3 or internvl."),
    ],
    folder: Annotated[Path, typer.Argument(help="Where the checkpoint goes; must be new or empty.")],
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
) -> None:
    """Write a family's tiny flavour: its real classes, small sizes, random weights.

    It loads as a real checkpoint does: `imax train --model FOLDER`.
    """
    from model_adapters.registry import family as find
    from model_adapters.tiny.flavour import write

    be_quiet()
    kind = find(family)
    refuse_taken(folder)
    parameters = write(kind.flavour, kind.model_class, folder, seed=seed)
    print(f"{folder}: {kind.model_class.__name__}, {parameters:,} parameters with random weights")
    print(f"  next: imax train --recipe imax --model {folder} --output_dir runs/{folder.name}")
