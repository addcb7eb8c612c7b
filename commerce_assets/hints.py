"""Commands in texts for people, written so that they can be pasted into a shell in the project's folder."""

import re
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "commerce-assets"
# Not after a path and not before an option: a text that has been written already stays as it is.
_COMMAND = re.compile(rf"(?<![\w/.-]){PROGRAM} (?=[a-z])")


def program() -> str:
    """Return how this environment's program is called.

    Its path if that is below the working directory, which works in a shell that has activated nothing; its name if it
    is on the PATH; else its absolute path.
    """
    script = Path(sys.executable).parent / PROGRAM
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m commerce_assets"
    if script.is_relative_to(Path.cwd()):
        return shlex.quote(str(script.relative_to(Path.cwd())))
    found = shutil.which(PROGRAM)
    return PROGRAM if found and script.samefile(found) else shlex.quote(str(script))


def with_program(text: str, env_file: Path | None = None) -> str:
    """Return a text with its commands as they are called for the settings of a file; `.env` unless given."""
    option = f"--env-file {shlex.quote(str(env_file))} " if env_file else ""
    return _COMMAND.sub(lambda _: f"{program()} {option}", text)
