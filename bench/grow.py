"""`python -m bench.grow <file> <times>`: multiply the rows of a loaded table of orders.

Each order gets copies with other ids, created and changed some seconds earlier. They are written day by day, so that
the store's orders are spread over the whole table.
"""

import sys

import duckdb


def main() -> None:
    path, times = sys.argv[1], int(sys.argv[2])
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS shop")
        connection.execute("USE shop")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TEMP TABLE seed AS SELECT *, CAST(created_at AS DATE) AS day FROM commerce.orders")
        connection.execute("DELETE FROM commerce.orders")
        (most,) = connection.execute("SELECT max(id) FROM seed").fetchone()
        for (day,) in connection.execute("SELECT DISTINCT day FROM seed ORDER BY 1").fetchall():
            connection.execute(
                f"""
                INSERT INTO commerce.orders BY NAME
                SELECT * EXCLUDE (day, copy) REPLACE (
                    id + copy * {most} AS id, updated_at - to_seconds(copy) AS updated_at,
                    greatest(created_at - to_seconds(copy), CAST(day AS TIMESTAMPTZ)) AS created_at)
                FROM seed, range({times}) AS copies(copy) WHERE day = ?""",
                [day],
            )
        connection.execute("CHECKPOINT shop")


if __name__ == "__main__":
    main()
