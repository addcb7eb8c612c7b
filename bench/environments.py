"""The peers' environments, created once by pip from pinned requirements in `.envs`, which git ignores."""

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
_FOLDER = HERE / ".envs"


class NotInstalledError(Exception):
    """A peer's environment could not be created."""


_failed: dict[str, str] = {}


def environment(peer: str) -> Path:
    """Return the `bin` of the peer's environment; create it if it is missing or its requirements changed.

    Raises:
        NotInstalledError: pip could not install it; a session tries once.
    """
    if peer in _failed:
        raise NotInstalledError(_failed[peer])
    requirements = HERE / "peers" / peer / "requirements.txt"
    content = requirements.read_bytes()
    name = f"{peer}-{hashlib.sha256(content).hexdigest()[:8]}"
    folder = _FOLDER / name
    if not (folder / "complete").exists():
        print(f"creating the environment of {peer} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "-r", str(requirements)], check=False, capture_output=True, text=True)
        if done.returncode:
            _failed[peer] = f"pip could not install {peer}: {done.stderr[-500:]}"
            raise NotInstalledError(_failed[peer])
        (folder / "complete").touch()
    return folder / "bin"


def version_of(python: Path, *packages: str) -> str:
    """Return `name version, ...` of the installed packages."""
    code = (
        "import sys; from importlib.metadata import version; "
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    done = subprocess.run([str(python), "-c", code, *packages], check=True, capture_output=True, text=True)
    return done.stdout.strip()
