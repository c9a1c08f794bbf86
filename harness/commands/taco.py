"""`imax taco train|analyze|nearest|report`: train encoders of visual tasks, and say what their maps show."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from data_recipes.errors import UserError, unknown
from harness import be_quiet
from taco_probe.taco.settings import Settings, settings_of

app = typer.Typer(no_args_is_help=True, help="TaCo: an embedding of visual tasks, and what it shows.")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for each field of Settings in place of its `**said`, which gets those that were
    given."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = inspect.get_annotations(command, eval_str=True)
    fields = []
    for name, field in Settings.model_fields.items():
        if name in {parameter.name for parameter in own}:
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
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if kind not in (int, float, str) and value not in get_args(kind):
        raise unknown(name, value, get_args(kind))
    return value


@app.command()
@with_settings
def train(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="For the runs: OUT/<variant>-s<seed>/.")],
    seeds: Annotated[str, typer.Option(help="One encoder each, such as 1,2,3.")] = "1",
    variants: Annotated[
        str, typer.Option(help="Of main, no_failures, input, target, shuffled; with commas.")
    ] = "main",
    data: Annotated[
        list[str] | None,
        typer.Option(help="A dataset of yours: NAME=PATH of a folder or an npz file; may be repeated."),
    ] = None,
    **said: Any,
) -> None:
    """Train encoders, one for each variant and seed; those that are finished already stay as they are."""
    be_quiet()
    settings = settings_of(said, "imax taco train")
    raise UserError(f"not built yet: {settings.encoder} {output_dir} {seeds} {variants} {data}")


@app.callback()
def _taco() -> None:
    """Keeps `train` a command of its own while it is the only one."""
