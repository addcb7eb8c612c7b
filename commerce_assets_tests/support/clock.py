"""Clocks that a test moves, and what replaces `time.sleep`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import time_machine


@dataclass
class Sleeper:
    """Replaces `time.sleep`: records each wait instead."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass
class Clock:
    """Replaces the module `time`: only `sleep` and the test move it."""

    now: float = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TwoClocks:
    """The store's clock, and the machine's, which differs from it by `skew`."""

    def __init__(self, store: datetime, *, skew: timedelta = timedelta()) -> None:
        self._store = store
        self._skew = skew
        self._traveller: time_machine.Traveller | None = None

    @property
    def store(self) -> datetime:
        return self._store

    @store.setter
    def store(self, instant: datetime) -> None:
        self._store = instant
        self._move_machine()

    @property
    def skew(self) -> timedelta:
        return self._skew

    @skew.setter
    def skew(self, skew: timedelta) -> None:
        self._skew = skew
        self._move_machine()

    @property
    def machine(self) -> datetime:
        return self._store + self._skew

    @contextmanager
    def travel(self) -> Iterator[None]:
        """Set this process's clock to the machine's. Monotonic clocks and file times stay real."""
        with time_machine.travel(self.machine, tick=False) as self._traveller:
            yield
        self._traveller = None

    def _move_machine(self) -> None:
        if self._traveller:
            self._traveller.move_to(self.machine, tick=False)
