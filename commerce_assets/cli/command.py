"""What all commands have: examples in their help, and `--debug`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import click

Examples = Sequence[tuple[str, str]]
"""What to type after the program's name, and what it is good for."""


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001, FBT001 - click's
    if value:
        logging.getLogger("commerce_assets").setLevel(logging.DEBUG)


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show where an error comes from; that may quote what it stumbled over.",
)


class Command(click.Command):
    """A command whose help explains its arguments and shows examples, and that takes `--debug` too."""

    def __init__(
        self, *args: Any, examples: Examples, arguments: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.arguments = arguments or {}
        debug_option(self)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([*self.arguments.items()])
        super().format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter, self.examples)
        super().format_epilog(ctx, formatter)


def write_examples(ctx: click.Context, formatter: click.HelpFormatter, examples: Examples) -> None:
    """The examples as they can be typed, whichever way the program was started."""
    with formatter.section("Examples"):
        for typed, purpose in examples:
            formatter.write(f"{'':{formatter.current_indent}}{ctx.find_root().command_path} {typed}\n")
            formatter.write(f"{'':{formatter.current_indent}}    {purpose}\n")
