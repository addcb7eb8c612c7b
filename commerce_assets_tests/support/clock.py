"""The clocks of a store and of the machine that extracts from it; a test moves both."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import time_machine


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
