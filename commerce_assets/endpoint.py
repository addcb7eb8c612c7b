"""Declarative configuration of an API endpoint: path, paginator, keys and columns. No I/O.

The names follow dlt's REST API source. What all endpoints have in common is a default here, so another store's
conventions are one edit.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


class ColumnType(StrEnum):
    """The DuckDB type of a declared field."""

    BIGINT = "BIGINT"
    DECIMAL = "DECIMAL(18,4)"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP WITH TIME ZONE"
    TEXT = "VARCHAR"
    TEXT_LIST = "VARCHAR[]"
    JSON = "JSON"


class Sensitivity(StrEnum):
    """Why a column is masked in logs and previews."""

    PERSONAL = "personal"
    """Names, addresses, email, IP: the buyer's personal data."""
    CAPABILITY = "capability"
    """A URL that grants access to whatever it points to, so as sensitive as a password."""
    PRIVATE = "private"
    """The merchant's own data; stored unchanged."""
    UNDECLARED = "undeclared"
    """Undeclared fields, which may contain anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One declared field of an endpoint, stored under the API's name."""

    name: str
    type: ColumnType
    description: str
    sensitivity: Sensitivity | None = None

    def __post_init__(self) -> None:
        # Only these types can store a hash.
        if self.is_governed and self.type not in {ColumnType.TEXT, ColumnType.JSON}:
            raise ValueError(f"{self.name!r} is {self.sensitivity}: its type must be TEXT or JSON")

    @property
    def is_governed(self) -> bool:
        """Whether the policy for personal data applies to it."""
        return self.sensitivity not in {None, Sensitivity.PRIVATE}


EXTRA = Column(
    name="_extra",
    type=ColumnType.JSON,
    description="Undeclared fields that the API sent; NULL if there are none.",
    sensitivity=Sensitivity.UNDECLARED,
)
INVALID = Column(
    name="_invalid",
    type=ColumnType.JSON,
    description="{field: raw value} of each declared field whose value does not fit its type; NULL if there are none.",
)
EXTRACTED_AT = Column(
    name="_extracted_at",
    type=ColumnType.TIMESTAMP,
    description="When the extraction of this version of the row began (UTC).",
)
DELETED_AT = Column(
    name="_deleted_at",
    type=ColumnType.TIMESTAMP,
    description="When the row was first missing from a full refresh (UTC); NULL while the store has it.",
)


class WriteDisposition(StrEnum):
    """What a load does to the stored rows."""

    REPLACE_WINDOW = "replace_window"
    """A window replaces the rows of its days; a refresh upserts changed rows."""
    FULL_REFRESH = "full_refresh"
    """Every load compares the full list; rows deleted upstream are soft-deleted (`_deleted_at`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageNumberPaginatorConfig:
    """The query parameters that request one page of a list.

    Attributes:
        page_param: The query parameter with the page number.
        limit_param: The query parameter with the number of items per page.
        limit: Maximum number of items per page.
        first_page: The number of the first page in the API.
    """

    page_param: str = "page"
    limit_param: str = "per_page"
    limit: int = 50
    first_page: int = 1

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"the limit of a page must be at least 1, not {self.limit}")

    def params(self, *, page: int, limit: int) -> dict[str, str]:
        """Return the query parameters of a page, counted from 1, of up to `limit` items."""
        return {self.page_param: str(page - 1 + self.first_page), self.limit_param: str(limit)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLookup:
    """A column that the list may lack, and the rows for which `GET <path>/<id>` is requested to fill it.

    Attributes:
        column: The JSON column, a list in the API; a row with an empty one lacks it.
        flag: A boolean column that is true in the rows that need it.
        states: Values of the column `state`, in lower case, of further rows that need it.
    """

    column: str
    flag: str
    states: frozenset[str] = frozenset()

    @property
    def types(self) -> dict[str, ColumnType]:
        """The columns that the endpoint must declare for it."""
        return {self.column: ColumnType.JSON, self.flag: ColumnType.BOOLEAN, "state": ColumnType.TEXT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One list of the API and the table that stores it.

    Attributes:
        name: The name of the asset, the table and, if partitioned, the job.
        path: The path relative to the base URL, resolved as in a browser (`../v1_3/orders` works); a leading slash is
            ignored.
        data_selector: The key that wraps each item, as in `[{"order": {...}}]`. None: `[{...}]`.
        description: What a row is.
        columns: Every declared field, including the primary key.
        primary_key: The integer that identifies a row; never null.
        cursor: The timestamp that assigns a row to a daily partition. None: every pull is a full refresh.
        window_start_param: The query parameter with the first day of a window.
        window_end_param: The query parameter with the last day of a window.
        newest_first: The query parameter and value that reverse a list with a cursor.
        updated_at: The timestamp that orders two versions of a row.
        update_filter: The query parameter that selects rows changed since an instant. None: the list has none.
        paginator: The query parameters of a page.
        keeps_versions: Also store every version of a row, in the table `<name>_history`.
        item_lookup: What the refresh requests row by row, because the list may lack it. None: nothing.
    """

    name: str
    path: str
    data_selector: str | None
    description: str
    columns: tuple[Column, ...]
    primary_key: str = "id"
    cursor: str | None = None
    window_start_param: str = "from"
    window_end_param: str = "to"
    newest_first: tuple[str, str] = ("sort", "newest_first")
    updated_at: str = "updated_at"
    update_filter: str | None = None
    paginator: PageNumberPaginatorConfig = PageNumberPaginatorConfig()
    keeps_versions: bool = False
    item_lookup: ItemLookup | None = None

    def __post_init__(self) -> None:
        types = {column.name: column.type for column in self.columns}
        names = [column.name for column in self.columns]
        for name in (self.name, *names):
            # A leading underscore is reserved for the project's columns.
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r}, of endpoint {self.name!r}, is not a lower-case identifier")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"endpoint {self.name!r} declares twice: {', '.join(twice)}")
        needed = {self.primary_key: ColumnType.BIGINT, self.updated_at: ColumnType.TIMESTAMP}
        needed |= self.item_lookup.types if self.item_lookup else {}
        if self.cursor:
            needed[self.cursor] = ColumnType.TIMESTAMP
        if missing := sorted(needed.keys() - types.keys()):
            raise ValueError(f"endpoint {self.name!r} does not declare: {', '.join(missing)}")
        for name, type_ in needed.items():
            if types[name] != type_:
                raise ValueError(f"{name!r}, of endpoint {self.name!r}, is {types[name]}; it must be {type_}")
        if self.update_filter and not self.cursor:
            raise ValueError(f"endpoint {self.name!r} has an update_filter, which needs a cursor")
        if self.item_lookup and not self.update_filter:
            raise ValueError(f"endpoint {self.name!r} has an item_lookup, which needs an update_filter")

    @property
    def write_disposition(self) -> WriteDisposition:
        return WriteDisposition.REPLACE_WINDOW if self.cursor else WriteDisposition.FULL_REFRESH

    @property
    def is_partitioned(self) -> bool:
        return self.write_disposition is WriteDisposition.REPLACE_WINDOW

    @property
    def item_name(self) -> str:
        """The name of one item in messages: `order`."""
        return self.data_selector or f"{self.name} item"

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The table's columns in order: the declared ones, then the project's."""
        own = (EXTRA, INVALID, EXTRACTED_AT)
        return (*self.columns, *own) if self.is_partitioned else (*self.columns, *own, DELETED_AT)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)
