"""One shop's storage: the database, the staging directory and the personal-data policy."""

from dataclasses import dataclass
from pathlib import Path

from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Warehouse:
    """Where rows are stored, and how.

    Attributes:
        database: The DuckDB file or the lake.
        staging_dir: Where extracted pages lie until they are loaded.
        policy: What is hashed or dropped at load; with its key if it hashes.
    """

    database: Database
    staging_dir: Path
    policy: PersonalDataPolicy
