"""Dagster's SQLite event log, in batches: a backfill of a year costs seconds of bookkeeping instead of a minute.

The stock storage makes an engine, a connection and a commit for each event and each file that it goes to. A range of
days is a planned and a materialization event for each day, and their bookkeeping took longer than the pull and the load
of the days themselves. Here engines are kept, and the events that Dagster hands over together are stored together. What
is stored, and where, is the same: `SqliteEventLogStorage` reads what this has written, and the other way round.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from typing import Any, Self

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE"
"""Dagster's own setting: up to how many events it hands over together; none unless it is set."""

_EVENTS_A_BATCH = "1000"
_ENGINES = 32


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's `SqliteEventLogStorage`, with engines that are kept and batches that are one transaction a file.

    Named in dagster.yaml as the `event_log_storage`. Only documented methods of `EventLogStorage` and
    `SqlEventLogStorage` are overridden.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Of this process and those that it starts, each of which has this storage too: without it there are no batches.
        os.environ.setdefault(BATCH_SIZE, _EVENTS_A_BATCH)
        self._known: set[str] = set()
        self._batch = threading.local()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores events that belong together: in each file that they go to all of them, or none."""
        with self.together(*(event.run_id for event in events)):
            for event in events:
                self.store_event(event)

    @contextmanager
    def together(self, *run_ids: str) -> Iterator[None]:
        """Stores what this thread tells of the runs meanwhile in one transaction a file.

        Nothing else should be done meanwhile: no other process can write to the index.
        """
        # The index is opened first, so that a run's own file is stored first: what the index names is there, then.
        shards = (INDEX_SHARD_NAME, *dict.fromkeys(run_ids))
        with ExitStack() as stack:
            self._batch.connections = {shard: stack.enter_context(self._connection(shard)) for shard in shards}
            try:
                yield
            finally:
                del self._batch.connections

    def run_connection(self, run_id: str | None = None) -> Any:
        return self._connection(run_id or "")

    def index_connection(self) -> AbstractContextManager[Connection]:
        return self._connection(INDEX_SHARD_NAME)

    def has_table(self, table_name: str) -> bool:
        engine = _engine(self.conn_string_for_shard(INDEX_SHARD_NAME))
        with engine.connect() as connection:
            return engine.dialect.has_table(connection, table_name)

    def wipe(self) -> None:
        self._known.clear()
        super().wipe()

    @contextmanager
    def _connection(self, shard: str) -> Iterator[Connection]:
        """A connection with a transaction: that of this thread's batch, if there is one."""
        if connection := getattr(self._batch, "connections", {}).get(shard):
            yield connection
            return
        if shard not in self._known:
            # The stock storage makes a file that is missing.
            with super().index_connection() if shard == INDEX_SHARD_NAME else super().run_connection(shard):
                self._known.add(shard)
        with _engine(self.conn_string_for_shard(shard)).begin() as connection:
            yield connection


@lru_cache(maxsize=_ENGINES)
def _engine(url: str) -> Engine:
    """An engine keeps the statements that it has compiled, and no connection: a file is open while it is used."""
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})
