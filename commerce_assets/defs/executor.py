"""The executor of every job: one process per run; the steps take turns, and a process per step costs a second."""

import os
import socket
from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

# Dagster exports the executor's function, but not its class.
from dagster._core.executor.in_process import InProcessExecutor

from commerce_assets.coordination import Coordination

HOLDER_TAG: Final = "commerce_assets/process"
"""The tag of a run that holds a lock while it is alive; it names the process."""


def holder_tags(coordination: Coordination) -> dict[str, str]:
    """Return the tags of a run that this process holds; none if runs hold no lock."""
    if not coordination.holds_runs:
        return {}
    return {HOLDER_TAG: f"{os.getpid()} on {socket.gethostname()}"}


def build_executor(coordination: Coordination) -> dg.ExecutorDefinition:
    """Build the executor: Dagster's own, which on several machines also shows that its run is alive."""
    if not coordination.holds_runs:
        return dg.in_process_executor

    stock: Any = dg.in_process_executor
    return dg.ExecutorDefinition(
        name=stock.name,
        config_schema=stock.config_schema,
        executor_creation_fn=lambda context: _RunHoldingExecutor(stock.executor_creation_fn(context), coordination),
    )


class _RunHoldingExecutor(InProcessExecutor):
    def __init__(self, stock: InProcessExecutor, coordination: Coordination) -> None:
        super().__init__(stock.retries, stock.step_dependency_config)
        self._coordination = coordination

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        with self._coordination.hold_run(plan_context.run_id):
            plan_context.instance.add_run_tags(plan_context.run_id, holder_tags(self._coordination))
            yield from super().execute(plan_context, execution_plan)
