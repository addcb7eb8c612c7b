"""Dagster's event log in PostgreSQL, with a stamp for each day of a run. See deploy/cluster/dagster.yaml."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import dagster as dg
from dagster._serdes import ConfigurableClassData
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

from commerce_assets.defs.event_log import set_apart


class SetApartPostgresEventLogStorage(PostgresEventLogStorage):  # type: ignore[misc] # in .venv, it is not installed
    """`PostgresEventLogStorage`; in a batch, the UI would show a run's days of one millisecond as one entry."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store the events, the materializations of an asset a millisecond apart."""
        super().store_event_batch(set_apart(events))
