"""How commands are grouped and shown: Typer, set up so that help comes at once. It must not know any command."""

from typing import Any

import typer
from typer.core import TyperGroup

_WIDEST_HELP = 120


class _Group(TyperGroup):
    """A group whose flags of Typer's own making, such as --help, are off where they are not given.

    Without a value Typer imports pydantic to find out that they have none, which takes longer than all the rest.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """The flags of the group itself."""
        found: list[Any] = super().get_params(ctx)
        for flag in found:
            if flag.default is None and flag.is_flag:
                flag.default = False
        return found


def group(**named: Any) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: importing rich and drawing boxes would take as long as all the rest
        context_settings={"max_content_width": _WIDEST_HELP},
        **named,
    )
