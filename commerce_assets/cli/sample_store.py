"""`sample-store`: serve the sample store of a repository checkout."""

import click

try:
    from sample_store.__main__ import main as command
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "sample_store":
        raise

    @click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
    @click.argument("ignored", nargs=-1)
    def command(ignored: tuple[str, ...]) -> None:  # noqa: ARG001 - every argument gets the same answer
        raise click.ClickException(
            "the sample store is not part of the installed package. Fix: run it from a checkout of the repository."
        )


__all__ = ["command"]
