"""`imax models`: the table of docs/models.md, in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from model_adapters.models import MODELS


def models() -> None:
    """List the models that have a short name: where their weights are, under which terms, what they need."""
    table = Table("model", "checkpoint", "family", "parameters", "licence", "access", "bf16", "4 bit")
    for model in MODELS:
        shown = "shipped" if model.name == "tiny" else model.checkpoint or "a folder of yours"
        table.add_row(
            model.name, shown, model.family, f"{model.billions:g} B", model.licence, model.access,
            model.needs("bf16"), model.needs("4bit"),
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print("Any other checkpoint of these families: --model HUB_ID or --model FOLDER.", markup=False)
    console.print("Memory is an estimate for LoRA of rank 16 on one GPU.", markup=False)
