"""The peers' environments: made once by pip from the pinned requirements, beside this file and out of git's sight."""

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
_FOLDER = HERE / ".envs"


class NotInstalledError(Exception):
    """A peer's environment could not be made."""


_failed: dict[str, str] = {}


def environment(peer: str) -> Path:
    """The `bin` of the peer's environment, which is made if it is not there or the requirements have changed.

    Raises:
        NotInstalledError: pip could not install it; it is not tried twice in a session.
    """
    if peer in _failed:
        raise NotInstalledError(_failed[peer])
    requirements = HERE / "peers" / peer / "requirements.txt"
    content = requirements.read_bytes()
    name = f"{peer}-{hashlib.sha256(content).hexdigest()[:8]}"
    folder = _FOLDER / name
    if not (folder / "complete").exists():
        print(f"making the environment of {peer} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "-r", str(requirements)], check=False, capture_output=True, text=True)
        if done.returncode:
            _failed[peer] = f"pip could not install {peer}: {done.stderr[-500:]}"
            raise NotInstalledError(_failed[peer])
        (folder / "complete").touch()
    return folder / "bin"


def version_of(python: Path, *packages: str) -> str:
    """`name version, ...` of what is installed there."""
    code = (
        "import sys; from importlib.metadata import version; "
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    done = subprocess.run([str(python), "-c", code, *packages], check=True, capture_output=True, text=True)
    return done.stdout.strip()
