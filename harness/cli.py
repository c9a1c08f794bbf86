"""The `imax` command: a table of sub-commands, each imported only when it is asked for."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from data_recipes.errors import UserError, unknown

# name -> (module; attribute, a typer app or a function, or "" when it takes the raw arguments; help)
COMMANDS = {
    "recipe": ("harness.commands.recipe", "app", "Build, describe and check mixtures."),
    "train": ("harness.commands.train", "", "Fine-tune a model, with the flags of harness/train.py."),
    "eval": ("harness.commands.evaluate", "evaluate", "Score a run on the seven tasks of the test set."),
    "annotate": ("harness.commands.annotate", "annotate", "Let a run fill in a mixture's missing tasks."),
    "leaderboard": ("harness.commands.evaluate", "leaderboard", "Compare runs: a table and an HTML page."),
    "dynamics": ("harness.commands.dynamics", "app", "Measure and compare optimisation dynamics."),
    "taco": ("harness.commands.taco", "app", "Map visual tasks: train encoders, analyse, report."),
    "study": ("harness.commands.study", "app", "Run recipes x models x seeds, and report on one page."),
    "models": ("harness.commands.models", "models", "The models by name: weights, terms, memory."),
    "tiny": ("harness.commands.tiny", "tiny", "Write a family's tiny flavour, to try a path without a GPU."),
    "merge": ("harness.commands.merge", "merge", "Fold a run's adapter into its base model."),
    "doctor": ("harness.commands.doctor", "doctor", "Say what is installed, and what is missing."),
}

# Every click exception, public or vendored by typer: `BadParameter` is a UsageError is a ClickException.
_Mistake: Any = typer.BadParameter.__mro__[2]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `imax` and exits: 0 done, 2 a user's mistake (one line on stderr), 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except _Mistake as error:
        if "\n" in error.format_message():  # a command group without a command: its help
            error.show()
        else:
            print(f"error: {error.format_message()}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one sub-command; returns the exit code.

    Raises:
        UserError: no such command, or a mistake in what it was given.
    """
    name = arguments[0] if arguments else "--help"
    if not name.startswith("-") and name not in COMMANDS:
        raise unknown("command", name, COMMANDS, "`imax --help` describes them")
    if name == "train":  # takes every flag of train.py as it is, --help too
        return int(importlib.import_module("harness.commands.train").launch(arguments[1:]))
    result = app(name)([*arguments] or ["--help"], prog_name="imax", standalone_mode=False)
    return result if isinstance(result, int) else 0


def app(wanted: str = "") -> typer.Typer:
    """The command line with the sub-command `wanted` in place; of the others only name and help, which keeps
    `imax --help` free of torch."""
    imax = typer.Typer(callback=_options, add_completion=False, pretty_exceptions_enable=False)
    for name, (module, attribute, text) in COMMANDS.items():
        if name != wanted or not attribute:
            imax.command(name, help=text)(_nothing)
            continue
        found: typer.Typer | Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            imax.add_typer(found, name=name, help=text)
        else:
            imax.command(name)(found)
    return imax


def _nothing() -> None:
    """Stands for a command in the list of commands."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"imax-harness {importlib.metadata.version('imax-harness')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version and exit."),
    ] = False,
) -> None:
    """Image-centric against decentralised annotation: build mixtures, fine-tune, score, compare."""


if __name__ == "__main__":
    main()
