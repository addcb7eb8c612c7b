"""Run a contender, measure it from outside and check that its result is complete; select the best of several runs."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from bench import measure
from bench.contenders import Contender, Task
from bench.environments import NotInstalledError

_LONGEST_SECONDS = 3_600


@dataclass(frozen=True)
class Outcome:
    """The cost of a run, and whether its result is complete.

    Attributes:
        rows: Rows of the task.
        wall, cpu: Seconds.
        peak: Bytes of the largest process.
        requests, refused: Counted by the server.
        asking: Seconds between the first and the last request.
        server_cpu: CPU seconds of the server meanwhile.
        complete: The rows and the sum of the amounts equal the store's; None if nothing is stored.
        growth: The growth of the database, as a share of its size before.
        stored, files: Bytes and number of the files of the database.
        output: The output.
        failure: Why the run has no result.
    """

    contender: Contender
    rows: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    requests: int = 0
    refused: int = 0
    asking: float = 0.0
    server_cpu: float = 0.0
    complete: bool | None = None
    growth: float = 0.0
    stored: int = 0
    files: int = 0
    output: str = field(default="", repr=False)
    failure: str = ""

    @property
    def cpu_per_row(self) -> float:
        return self.cpu / max(self.rows, 1)


def run(
    contender: Contender,
    task: Task,
    folder: Path,
    *,
    whole: bool = True,
    fresh: bool = True,
    rows: int | None = None,
    stored_since: date | None = None,
) -> Outcome:
    """Run a task in the contender's folder, inside `folder`.

    Args:
        contender: The contender.
        task: The task.
        folder: The folder of the contenders' folders.
        whole: The task is the full list, not a window.
        fresh: Clear the folder first.
        rows: The number of rows for the rate, if not that of the result.
        stored_since: The first day that an earlier task has stored.
    """
    own = folder / contender.name
    if fresh:
        contender.prepare(own)
    before, _ = contender.stored(own)
    window = None if whole else ((stored_since or task.days[0]).isoformat(), task.days[1].isoformat())
    expected = task.store.stats(window)
    try:
        measured = measure.run(
            contender.command(task),
            cwd=own,
            environment=contender.environment(task, own, whole=whole),
            log=folder / f"{contender.name}.log",
            timeout=_LONGEST_SECONDS,
        )
        found = contender.found(task, own) if contender.database else None
    except (measure.CommandFailedError, NotInstalledError, subprocess.SubprocessError, OSError, ValueError) as error:
        failed = Outcome(contender, failure=str(error))
        tell(failed)
        return failed
    asked = task.store.stats()
    stored, files = contender.stored(own)
    outcome = Outcome(
        contender,
        rows=expected.rows if rows is None else rows,
        wall=measured.wall,
        cpu=measured.cpu,
        peak=measured.peak,
        requests=asked.requests,
        refused=asked.refused,
        asking=asked.seconds,
        server_cpu=asked.server_cpu - expected.server_cpu,
        complete=None if found is None else found == (expected.rows, expected.cents),
        growth=stored / before - 1 if before else 0.0,
        stored=stored,
        files=files,
        output=measured.output,
    )
    tell(outcome)
    return outcome


def tell(outcome: Outcome) -> None:
    print(
        f"  {outcome.contender.name:16} {outcome.wall:8.1f} s wall {outcome.cpu:8.1f} s CPU "
        f"{outcome.peak >> 20:6} MiB {outcome.requests:6} requests  "
        f"{outcome.failure[-300:] or {None: '', True: 'complete', False: 'INCOMPLETE'}[outcome.complete]}",
        flush=True,
    )


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the minimum of each number over the runs: other load on the machine can only increase them."""
    done = [outcome for outcome in outcomes if not outcome.failure]
    if not done:
        return outcomes[-1]
    return replace(
        min(done, key=lambda outcome: outcome.wall),
        cpu=min(outcome.cpu for outcome in done),
        peak=min(outcome.peak for outcome in done),
        complete=None if done[0].complete is None else all(outcome.complete for outcome in done),
    )
