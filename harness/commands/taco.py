"""`imax taco train|report|analyze|transfer|nearest`: trains encoders of visual tasks, says what maps show."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from data_recipes.errors import UserError, unknown
from harness import be_quiet
from harness.commands import taco_use
from harness.commands.taco_analyze import analyze
from taco_probe.taco.settings import Settings, settings_of

app = typer.Typer(no_args_is_help=True, help="TaCo: an embedding of visual tasks, and what it shows.")


def with_settings(command: Callable[..., None], left_out: Sequence[str] = ("seed",)) -> Callable[..., None]:
    """The command with a flag for each field of Settings in place of its `**said`, which gets those that were
    given. `left_out` are fields that the command sets itself."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = inspect.get_annotations(command, eval_str=True)
    fields = []
    for name, field in Settings.model_fields.items():
        if name in left_out:
            continue
        kind = field.annotation if field.annotation in (int, float) else str
        text = " ".join((field.description or "").split())
        shown = "" if isinstance(field.default, tuple) or field.default == "" else f" [{field.default}]"
        option = typer.Option(f"--{name}", help=text + shown, show_default=False)
        hint: Any = Annotated[kind | None, option]
        fields.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint))
        hints[name] = hint

    def run(**given: Any) -> None:
        mine = {parameter.name: given.pop(parameter.name) for parameter in own}
        command(**mine, **{name: _value(name, value) for name, value in given.items() if value is not None})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = hints
    shown_own = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]
    run.__signature__ = inspect.Signature([*shown_own, *fields])  # type: ignore[attr-defined]
    return run


def _value(name: str, value: Any) -> Any:
    """A flag's value as its field takes it: lists are written with commas.

    Raises:
        UserError: a word that the field does not know.
    """
    kind = Settings.model_fields[name].annotation
    if get_origin(kind) is tuple:
        return _words(value)
    if kind not in (int, float, str) and value not in get_args(kind):
        raise unknown(name, value, get_args(kind))
    return value


@app.command()
@with_settings
def train(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="For the runs: OUT/<variant>-s<seed>/.")],
    seeds: Annotated[str, typer.Option(help="One encoder each, such as 1,2,3.")] = "1",
    variants: Annotated[
        str,
        typer.Option(help="With commas: main, no_failures, and the controls input, target, shuffled."),
    ] = "main",
    control_seeds: Annotated[
        str, typer.Option("--control_seeds", help="Seeds of the controls (else those of --seeds).")
    ] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset of yours: NAME=PATH of a folder or an npz file; may be repeated. "
            "Behind it ,labels=instances ,modality=CT ,category=C1 where needed."
        ),
    ] = None,
    save_steps: Annotated[
        int, typer.Option("--save_steps", min=0, help="Steps between two checkpoints; 0: none.")
    ] = 100,
    threads: Annotated[int, typer.Option(min=0, help="That torch uses; 0: all cores.")] = 0,
    **said: Any,
) -> None:
    """Train encoders, one for each variant and seed. Finished ones stay as they are; what was killed goes on.

    Without --datasets and --held_out, on what installed packages carry: docs/taco.md.
    """
    from harness.taco import train_all
    from taco_probe.taco.sources import read_places

    be_quiet()
    settings = settings_of(said, "imax taco train")
    runs = train_all(
        settings,
        output_dir,
        seeds=_numbers(seeds),
        variants=_words(variants),
        control_seeds=_numbers(control_seeds),
        places=read_places(data or ()),
        argv=sys.argv[1:],
        save_steps=save_steps,
        threads=threads,
    )
    for run in runs:
        typer.echo(f"trained: {run}")


@app.command()
def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Of an analysis, or of a run, which is then measured alone."),
    ],
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="For index.html and figures/ (FOLDER/atlas).")
    ] = None,
    view: Annotated[str, typer.Option(help="The 2-D picture: tsne or pca.")] = "tsne",
) -> None:
    """Draw the atlas: one offline page of tasks, distances, trajectories and examples, and figures."""
    from taco_probe.taco.atlas.plane import METHODS
    from taco_probe.taco.atlas.report import build

    be_quiet()
    if view not in METHODS:
        raise unknown("view", view, METHODS)
    made = build(folder, output_dir or folder / "atlas", method=view, say=typer.echo)
    typer.echo(f"written: {made.page}")
    for path in made.figures:
        typer.echo(f"written: {path}")


app.command()(analyze)
app.command()(taco_use.transfer)
app.command()(taco_use.nearest)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    """Raises UserError: no whole numbers with commas."""
    if wrong := [word for word in _words(text) if not word.isdecimal()]:
        raise UserError(f"seeds: whole numbers from 0 with commas, such as 1,2,3, not {wrong[0]!r}")
    return tuple(int(word) for word in _words(text))
