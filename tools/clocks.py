"""Run the quick tests at times and in zones that are easily forgotten: `make clocks`.

Every Python process of the tests is moved, by a `.pth` file in the environment; pytest's arguments can be given.
"""

import os
import subprocess
import sys
import sysconfig
import time
from datetime import datetime
from pathlib import Path

# In New York, the leap day begins during the tests; in Auckland, 31 December is over.
_CLOCKS = (
    ("2027-06-15T23:50+00:00", "UTC"),
    ("2028-02-29T04:50+00:00", "America/New_York"),
    ("2027-12-31T23:50+00:00", "Pacific/Auckland"),
)
_AHEAD = "CLOCK_AHEAD"
_HOOK = (
    f"import os, time; os.environ.get('{_AHEAD}') and "
    f"__import__('time_machine').travel(time.time() + float(os.environ['{_AHEAD}'])).start()\n"
)


def main() -> int:
    """Run pytest under each clock; return how many runs failed."""
    arguments = sys.argv[1:] or ["-n", "2", "--dist", "worksteal", "-m", "not slow and not browser and not cluster"]
    hook = Path(sysconfig.get_path("purelib")) / "clocks.pth"
    hook.write_text(_HOOK)
    failed = 0
    try:
        for instant, zone in _CLOCKS:
            print(f"{instant} in {zone}", flush=True)  # noqa: T201 - the command's output
            ahead = datetime.fromisoformat(instant).timestamp() - time.time()
            environment = {**os.environ, _AHEAD: str(ahead), "TZ": zone}
            failed += subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment).returncode != 0  # noqa: S603, PLW1510
    finally:
        hook.unlink()
    return failed


if __name__ == "__main__":
    sys.exit(main())
