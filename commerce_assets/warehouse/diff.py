"""What was pulled beside what is stored, before anything is changed: what would go, and is that to be believed?"""

from dataclasses import dataclass

import duckdb

from commerce_assets.endpoint import EXTRACTED_AT
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse import casts
from commerce_assets.warehouse.load import covered, has_collapsed
from commerce_assets.warehouse.schema import exists, table_of
from commerce_assets.warehouse.sql import SCHEMA, identifier, instant, text, within


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of a window, or of a whole list.

    Attributes:
        stored: What the table holds.
        pulled: What the store has given, one a key.
        vanished: How many stored rows it has not given: deleted, or only passed by.
    """

    stored: int
    pulled: int
    vanished: int = 0

    @property
    def has_collapsed(self) -> bool:
        """Whether a person should say that it is true."""
        return has_collapsed(stored=self.stored, pulled=self.pulled)


def compare(connection: duckdb.DuckDBPyConnection, staged: StagedPages) -> Comparison:
    """Compares a pull of a window, or of a whole list, with the table.

    Where pages do not overlap, a row that is deleted while they are read moves all that follow it one place up, and
    the first of the next page onto a page that has been read already: it looks deleted, and is not.
    """
    endpoint, window = staged.pull.endpoint, staged.pull.window
    nothing = Comparison(stored=0, pulled=staged.count)
    if not exists(connection, SCHEMA, endpoint.name):
        return nothing
    is_covered, key = covered(endpoint, window), identifier(endpoint.primary_key)
    if not connection.execute(f"SELECT 1 FROM {table_of(endpoint)} WHERE {is_covered} LIMIT 1").fetchone():
        return nothing
    names = [endpoint.primary_key, *([endpoint.cursor] if endpoint.cursor else [])]
    files = ", ".join(text(str(segment)) for segment in staged.segments)
    raw = ", ".join(f"{text(name)}: 'JSON'" for name in names)
    typed = ", ".join(f"{casts.typed(endpoint.column(name))} AS {identifier(name)}" for name in names)
    inside = within(identifier(endpoint.cursor), window.start, window.end) if window and endpoint.cursor else "TRUE"
    query = f"""
        WITH pulled AS (
            SELECT DISTINCT {key}
            FROM (SELECT {typed} FROM read_json([{files}], format = 'newline_delimited', columns = {{{raw}}}))
            WHERE {inside}
        )
        SELECT count(*), (SELECT count(*) FROM pulled),
            count_if({identifier(EXTRACTED_AT.name)} <= {instant(staged.manifest.began_at)}
                AND {key} NOT IN (FROM pulled))
        FROM {table_of(endpoint)} WHERE {is_covered}"""
    try:
        row = connection.execute(query).fetchone()
    except duckdb.InvalidInputException:
        # An item cannot be parsed. The load refuses it, without quoting it, and forgets what is staged.
        return nothing
    return Comparison(*row) if row else nothing
