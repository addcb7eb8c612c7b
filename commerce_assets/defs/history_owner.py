"""Refuse a second shop under the same names on an instance of Dagster.

To Dagster, equal asset keys are one asset, whichever code location they are in: what one shop has loaded would count as
loaded for the other. So the instance remembers whose history the names have: the store and account that were loaded,
and the code location that loaded them.
"""

from collections.abc import Callable
from typing import Final

import dagster as dg
import msgspec

from commerce_assets.defs.shop import Shop

_KEY: Final = "commerce_assets/owner/"


class NameTakenError(Exception):
    """Another shop's history has the same names; nothing was requested or written."""


class Owner(msgspec.Struct, frozen=True):
    """The store and account of a history, and its code location; None: loaded by a command, not in a location."""

    store: str
    location: str | None = None


def owner_of(instance: dg.DagsterInstance, shop: Shop) -> Owner | None:
    """Return whose history the shop's names have; None before the first load."""
    key = f"{_KEY}{shop.name}"
    found = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    return msgspec.json.decode(found, type=Owner) if found else None


def refuse_other_shop(
    instance: dg.DagsterInstance, shop: Shop, *, location: str | None, store: str | None, stored: Callable[[], set[str]]
) -> None:
    """Refuse a shop that is not the one whose history the names have.

    The same store, the same database or the same code location is the same shop: an API key can be replaced, a location
    renamed, a file deleted.

    Args:
        instance: Dagster's instance.
        shop: Has the names.
        location: The code location of the run; None of a command.
        store: The store and account that the run calls; None if it calls none.
        stored: Returns the stores and accounts that the database was loaded from.

    Raises:
        NameTakenError: It is another shop.
    """
    owner = owner_of(instance, shop)
    if owner is None or owner.store == store or (location and location == owner.location):
        return
    if (store is None and None in {location, owner.location}) or owner.store in stored():
        return
    where = f", in the code location {owner.location}" if owner.location else ""
    raise NameTakenError(
        f"this instance of Dagster has the history of another shop under the same names{where}: its partitions would "
        "count as loaded for this one. Fix: set COMMERCE_SHOP to a name in each shop's settings; or, if the shop has a "
        "new address or a new key, run it once with the run config store_moved: true (commerce-assets pull products "
        "--store-moved)."
    )


def record_owner(instance: dg.DagsterInstance, shop: Shop, *, location: str | None, store: str) -> None:
    """Remember that the shop has loaded under its names."""
    before = owner_of(instance, shop)
    if location is None and before and before.store == store:
        return
    owner = Owner(store, location)
    if owner != before:
        pairs = {f"{_KEY}{shop.name}": msgspec.json.encode(owner).decode()}
        instance.daemon_cursor_storage.set_cursor_values(pairs)


def location_of(run: dg.DagsterRun) -> str | None:
    """Return the code location of a run; None of a run that a command has started."""
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None
