"""Run the quick tests at times and in zones that are easily forgotten: `make clocks`.

Every Python process of the tests but the gRPC servers is moved, by a `.pth` file; pytest's arguments can be given.
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
# gRPC takes deadlines from Python's clock and waits for them by the kernel's: a moved server never answers. In a forked
# process, time-machine's clock starts again where it started in the parent. Python may process a `.pth` file twice.
_HOOK = f"""
import os, sys, time
if (
    "{_AHEAD}" in os.environ
    and "time_machine" not in sys.modules
    and not {{"grpc", "code-server"}} & set(sys.orig_argv)
):
    from time_machine import escape_hatch, travel

    def move():
        now = (escape_hatch.time if escape_hatch.is_travelling() else time).time()
        travel(now + float(os.environ["{_AHEAD}"])).start()

    move()
    os.register_at_fork(after_in_child=move)
"""


def main() -> int:
    """Run pytest under each clock; return how many runs failed."""
    arguments = sys.argv[1:] or ["-n", "2", "--dist", "worksteal", "-m", "not slow and not browser and not cluster"]
    hook = Path(sysconfig.get_path("purelib")) / "clocks.pth"
    hook.write_text(f"import sys; exec({_HOOK!r}, {{}})\n")
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
