"""`python -m bench.inside <first day> <last day>`: time the parts of a run of this project from within.

It times the imports, then runs the job `orders` in this process, with the Dagster instance of DAGSTER_HOME. The timed
parts are the extraction (client and staging), the load, the metadata, the checks and the writes to Dagster's event
log; the rest is Dagster. Prints one line of JSON:
{part: [seconds of wall, seconds of CPU]}.
"""

import importlib
import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

_parts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
_running: set[str] = set()
"""The running parts: a recursive call is counted once."""


def _now() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), usage.ru_utime + usage.ru_stime


def _timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        if part in _running:
            return function(*args, **kwargs)
        _running.add(part)
        began = _now()
        try:
            return function(*args, **kwargs)
        finally:
            _running.remove(part)
            for index, (before, after) in enumerate(zip(began, _now(), strict=True)):
                _parts[part][index] += after - before

    return timed


def _import() -> None:
    # The client too: a run imports it when it extracts.
    for module in ("commerce_assets.definitions", "commerce_assets.api.client"):
        importlib.import_module(module)


def main() -> None:
    _timed("import", _import)()
    from dagster import DagsterInstance

    from commerce_assets.definitions import defs
    from commerce_assets.defs import assets
    from commerce_assets.ingest import ingest as extraction

    extraction.stage = _timed("extract", extraction.stage)
    extraction.load = _timed("load", extraction.load)
    assets.partitions_metadata = _timed("metadata and chart", assets.partitions_metadata)
    assets.check_results = _timed("checks", lambda *args, check=assets.check_results: list(check(*args)))
    tags = {"dagster/asset_partition_range_start": sys.argv[1], "dagster/asset_partition_range_end": sys.argv[2]}
    with DagsterInstance.get() as instance:
        storage = type(instance.event_log_storage)
        storage.store_event = _timed("Dagster's event log", storage.store_event)
        storage.store_event_batch = _timed("Dagster's event log", storage.store_event_batch)
        job = defs.resolve_job_def("orders")
        _timed("whole run", job.execute_in_process)(instance=instance, tags=tags)
    print(json.dumps(_parts))


if __name__ == "__main__":
    main()
