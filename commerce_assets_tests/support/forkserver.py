"""Processes that are forked from one that has imported everything: a run takes a fifth of a second, not three.

A process has one fork server, so that its preloaded modules are listed once, here.
"""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [f"commerce_assets_tests.support.{module}" for module in ("crashing", "disturbances", "killed_writes")]
)
