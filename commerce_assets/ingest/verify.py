"""Decide whether staged rows may replace stored rows. Stored rows are removed on proof only.

A stored row that the store no longer returns is deleted, or soft-deleted, when the end of the list is proven, the
store and the account are those of the loads before, a second complete reading misses the same rows, and at most half of
the stored rows are gone (or one or two, however few there are). Otherwise nothing is stored, and a person decides.
The paginator ensures that each reading is consistent: a list that moves faster than it can be read fails there.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.diff import Vanished, vanished_rows
from commerce_assets.warehouse.load_log import last_store
from commerce_assets.wording import counted

# A day of three orders may lose two of them, a list of a thousand at most five hundred.
_ALWAYS_PLAUSIBLE = 2
# Two readings agree unless the list changes meanwhile; then a third one may agree.
_MOST_READINGS = 3


class VerificationError(Exception):
    """The staged rows must not replace the stored ones; the message names cause and fix. Nothing was stored."""


class RowCountCollapsedError(VerificationError):
    """More than half of the stored rows are missing from the response, or their deletion is not proven.

    Attributes:
        verified: The comparison.
    """

    def __init__(self, message: str, verified: "Verified") -> None:
        super().__init__(message)
        self.verified = verified


class StoreChangedError(VerificationError):
    """The rows stored before came from another store or account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The comparison of stored and extracted rows of a window or a full list.

    Attributes:
        stored: Rows in the table before the load.
        extracted: Rows that the store returned.
        vanished: Stored rows that the store did not return.
        readings: How many times the list was read.
        end: What proved the end of the list, and whether it moved.
        has_replaced_text: Some bytes of the answer were not text, and were replaced.
    """

    stored: int
    extracted: int
    vanished: int = 0
    readings: int = 1
    end: str = ""
    has_replaced_text: bool = False

    @property
    def has_collapsed(self) -> bool:
        """Whether the share of missing rows suggests a fault of the store rather than deletions."""
        return self.vanished > _ALWAYS_PLAUSIBLE and self.vanished * 2 > self.stored


def check_store(database: Database, endpoint: Endpoint, store: str, *, moved: bool) -> None:
    """Refuse another store or account than that of earlier loads.

    Raises:
        StoreChangedError: It is another one, and `moved` is not set.
    """
    if moved:
        return
    with database.read_or_empty() as connection:
        before = last_store(connection, endpoint)
    if before not in {None, store}:
        raise StoreChangedError(
            f"{endpoint.name}: the stored rows came from another store or API key: loading this one's would delete "
            "them. Fix: set COMMERCE_DUCKDB_PATH to another file; or, if the store has a new address or a new key, "
            f"run it once with the run config store_moved: true (commerce-assets pull {endpoint.name} --store-moved)."
        )


def verify(
    staged: StagedPages,
    database: Database,
    log: logging.Logger,
    *,
    read_again: Callable[[], None],
    allow_shrinkage: bool,
) -> Verified:
    """Compare the staged rows with the stored ones, and read the list again before removing a row.

    Args:
        staged: A complete reading of the list.
        database: The database.
        log: Receives each further reading.
        read_again: Stages the list again, from its start.
        allow_shrinkage: A person has confirmed that the rows were deleted.

    Raises:
        RowCountCollapsedError: Too many rows are gone, or two readings do not agree on which.
    """
    request = staged.pull
    missing: frozenset[int] | None = None
    for reading in range(1, _MOST_READINGS + 1):
        if request.updated_after:
            return _verified(staged, Vanished(stored=0, extracted=staged.count), reading)
        with database.read_or_empty() as connection:
            found = vanished_rows(connection, staged)
        verified = _verified(staged, found, reading)
        if not found.keys or allow_shrinkage:
            return verified
        if verified.has_collapsed:
            raise _collapsed(
                f"{request}: the store returns {counted(found.extracted, 'row')} where {found.stored:,} are stored",
                verified,
            )
        if not staged.end_proven:
            raise _collapsed(
                f"{request}: the response lacks {counted(len(found.keys), 'stored row')}, and its end is not proven",
                verified,
            )
        if missing is not None and found.keys <= missing:
            return verified
        missing = found.keys
        if reading < _MOST_READINGS:
            lacking = counted(len(missing), "stored row")
            log.warning("%s: the response lacks %s; reading the list again", request, lacking)
            read_again()
    raise _collapsed(f"{request}: {_MOST_READINGS} readings miss different rows", verified)


def _verified(staged: StagedPages, found: Vanished, reading: int) -> Verified:
    return Verified(
        stored=found.stored,
        extracted=found.extracted,
        vanished=len(found.keys),
        readings=reading,
        end=staged.reason,
        has_replaced_text=staged.has_replaced_text,
    )


def _collapsed(cause: str, verified: Verified) -> RowCountCollapsedError:
    return RowCountCollapsedError(
        f"{cause}. Nothing was stored. Fix: look at the store; if the rows were deleted there, run it again with the "
        "run config allow_shrinkage: true.",
        verified,
    )
