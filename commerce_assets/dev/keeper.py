"""Ends the process groups of a `make dev` that was killed: reads their ids until its pipe closes, then ends them."""

import signal
import sys

from commerce_assets.dev.processes import end_groups

if __name__ == "__main__":
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    end_groups([int(line) for line in sys.stdin])
