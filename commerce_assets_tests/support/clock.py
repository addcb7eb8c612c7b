"""A clock of the store and one of the machine that pulls from it, both of which a test moves."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from types import ModuleType
from typing import Any

import pytest

from commerce_assets.api import client
from commerce_assets.defs import checks, incremental, reconcile_job
from commerce_assets.ingest import staging
from commerce_assets.warehouse import load_log, notes

_ASK_FOR_THE_TIME: tuple[ModuleType, ...] = (checks, client, load_log, notes, reconcile_job, incremental, staging)


@dataclass(slots=True)
class TwoClocks:
    """`store` is the instant of the store's clock; the machine's goes ahead of it by `skew`, or behind."""

    store: datetime
    skew: timedelta = timedelta()

    @property
    def machine(self) -> datetime:
        return self.store + self.skew

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gives the machine's clock to Dagster, and to every module of the project that asks what time it is.

        `time.monotonic` is left alone, and so are the times of files.
        """
        clocks = self

        class MachineDatetime(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                return clocks.machine.astimezone(tz)

        class MachineTime:
            monotonic, sleep = time.monotonic, time.sleep

            @staticmethod
            def time() -> float:
                return clocks.machine.timestamp()

        for module in _ASK_FOR_THE_TIME:
            if hasattr(module, "datetime"):
                monkeypatch.setattr(module, "datetime", MachineDatetime)
            if hasattr(module, "time"):
                monkeypatch.setattr(module, "time", MachineTime)
        monkeypatch.setattr("dagster._time._mockable_get_current_datetime", lambda: clocks.machine.astimezone(UTC))
        monkeypatch.setattr("dagster._time._mockable_get_current_timestamp", MachineTime.time)
