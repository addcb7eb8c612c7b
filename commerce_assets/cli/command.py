"""What all commands share: examples in their help, `--debug`, `--format json`."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

Examples = Sequence[tuple[str, str]]
"""Arguments to type after the program's name, and their purpose."""

_JOB = re.compile(r"run the job (\w+)")


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001, FBT001 - click's
    if value:
        logging.getLogger("commerce_assets").setLevel(logging.DEBUG)


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show tracebacks (may contain data).",
)
format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of stdout."
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
    """Write examples that can be typed, however the program was started."""
    with formatter.section("Examples"):
        for typed, purpose in examples:
            formatter.write(f"{'':{formatter.current_indent}}{ctx.find_root().command_path} {typed}\n")
            formatter.write(f"{'':{formatter.current_indent}}    {purpose}\n")


def with_commands(text: str, asset: str = "orders", *, shop: str = "") -> str:
    """Name commands in the place of jobs, which checks and errors name for readers of the UI.

    Args:
        text: Names the jobs.
        asset: Whose text it is; loaded by the jobs that have no command of their own.
        shop: The shop's name, with which the names of its jobs begin.
    """
    commands = {"reconcile": "reconcile", "analytics": "build", f"{asset}_refresh": "refresh"}
    pull = f"pull {asset}"
    return _JOB.sub(lambda job: f"run `commerce-assets {commands.get(job[1].removeprefix(f'{shop}_'), pull)}`", text)
