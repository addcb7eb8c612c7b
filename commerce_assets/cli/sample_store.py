"""`sample-store`: the bundled store, whose own command line this is."""

import click

from sample_store.__main__ import main


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.pass_context
def command(ctx: click.Context) -> int:
    """Serve the bundled sample store until interrupted."""
    return main(ctx.args, prog=ctx.command_path)
