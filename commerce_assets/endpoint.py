"""What an endpoint of the API is: its path, its shape, its columns. Pure declarations, no I/O."""

import re
from dataclasses import dataclass
from enum import StrEnum

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


class ColumnType(StrEnum):
    """How a declared field is stored: the value is the DuckDB type."""

    BIGINT = "BIGINT"
    DECIMAL = "DECIMAL(18,4)"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP WITH TIME ZONE"
    TEXT = "VARCHAR"
    TEXT_LIST = "VARCHAR[]"
    JSON = "JSON"


class Sensitivity(StrEnum):
    """Why a column must not be shown where anybody can read it."""

    PERSONAL = "personal"
    """Names, addresses, e-mail, IP: the buyer's personal data."""
    CAPABILITY = "capability"
    """A URL that opens what it points to: as sensitive as a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One declared field of an endpoint, stored under the API's own name."""

    name: str
    type: ColumnType
    description: str
    sensitivity: Sensitivity | None = None


EXTRA = Column(
    name="_extra",
    type=ColumnType.JSON,
    description="Fields that the API sent and the endpoint does not declare; NULL where there are none.",
)
INVALID = Column(
    name="_invalid",
    type=ColumnType.JSON,
    description="{field: raw value} of each declared field whose value does not fit; NULL where there are none.",
)
EXTRACTED_AT = Column(
    name="_extracted_at",
    type=ColumnType.TIMESTAMP,
    description="When the pull that brought this version of the row began (UTC).",
)
DELETED_AT = Column(
    name="_deleted_at",
    type=ColumnType.TIMESTAMP,
    description="When a complete read first no longer held the row (UTC); NULL while the store has it.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One list of the API and the table that it becomes.

    Attributes:
        name: Names the asset, the table and, for lack of a better one, the job.
        path: Relative to the base URL, as a browser resolves it (`../v1_3/orders` works);
            a leading slash means the same as none.
        selector: The key that wraps each item: `{"order": {...}}`.
        description: What a row is.
        columns: Every declared field, the primary key among them.
        primary_key: The field that identifies a row; never null.
        cursor: The timestamp by which the list is cut into daily partitions, with the API's
            filters `from` and `to`. None: the list is always read whole.
        update_filter: The query parameter that asks for rows changed since an instant. None: there is none.
        updated_at: The field that tells which of two versions of a row is the newer.
        keeps_versions: Every version of a row is kept as well, in the table `<name>_history`.
    """

    name: str
    path: str
    selector: str
    description: str
    columns: tuple[Column, ...]
    primary_key: str = "id"
    cursor: str | None = None
    update_filter: str | None = None
    updated_at: str = "updated_at"
    keeps_versions: bool = False

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        for name in (self.name, *names):
            # A leading underscore is the project's own.
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r}, of endpoint {self.name!r}, is not a lower-case identifier")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"endpoint {self.name!r} declares twice: {', '.join(twice)}")
        needed = {self.primary_key, self.updated_at, *([self.cursor] if self.cursor else [])}
        if missing := sorted(needed - set(names)):
            raise ValueError(f"endpoint {self.name!r} does not declare: {', '.join(missing)}")

    @property
    def is_partitioned(self) -> bool:
        return self.cursor is not None

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The table's columns in order: the declared ones, then the project's own."""
        own = (EXTRA, INVALID, EXTRACTED_AT)
        return (*self.columns, *own) if self.is_partitioned else (*self.columns, *own, DELETED_AT)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)
