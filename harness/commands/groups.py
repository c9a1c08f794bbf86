"""Command groups with a default: `imax dynamics RUN RUN` for `imax dynamics compare RUN RUN`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


def defaulting_to(name: str) -> type[TyperGroup]:
    """A command group in which `name` is what arguments mean that start with no command."""

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Puts the default command in front of what names none."""
            if args and args[0] not in (*self.commands, "--help"):
                args = [name, *args]
            return list(super().parse_args(ctx, args))

    return Group
