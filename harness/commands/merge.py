"""`imax merge`: a run's adapter folded into its base, as a checkpoint that needs no peft."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from harness import be_quiet
from harness.runs import refuse_taken

DTYPES = ("auto", "float32", "bfloat16", "float16")


def merge(
    run: Annotated[Path, typer.Argument(help="A run folder with an adapter.")],
    folder: Annotated[Path, typer.Argument(help="Where the merged checkpoint goes; must be new or empty.")],
    dtype: Annotated[
        str, typer.Option(help="auto (the base checkpoint's), float32, bfloat16 or float16.")
    ] = "auto",
) -> None:
    """Fold a run's LoRA weights into the base model and write an ordinary checkpoint.

    The sum is taken in float32. A run trained on a quantised base is merged into the base as published.
    """
    import torch

    from data_recipes.errors import unknown
    from eval.generate import write_merged
    from eval.runs import read_run
    from model_adapters.registry import load_adapter

    be_quiet()
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    refuse_taken(folder)
    found = read_run(run)
    adapter = load_adapter(found.model)
    wanted = adapter.dtype if dtype == "auto" else getattr(torch, dtype)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a merge that was killed
    model = write_merged(adapter, found.adapter, partial, dtype=wanted)
    if folder.exists():
        folder.rmdir()
    partial.replace(folder)
    print(f"{folder}: {type(model).__name__}, {str(wanted).removeprefix('torch.')}, needs no peft to load")
