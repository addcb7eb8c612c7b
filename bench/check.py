"""`python -m bench.check <file> <query>`: query a DuckDB file and print the first row as JSON, in a separate process.

The benchmark itself must stay small, because a process starts with the peak memory of its parent.
"""

import json
import sys

import duckdb

if __name__ == "__main__":
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{sys.argv[1]}' AS found (READ_ONLY)")
        connection.execute("USE found")
        found = connection.execute(sys.argv[2])
        names = [column[0] for column in found.description]
        print(json.dumps(dict(zip(names, found.fetchone(), strict=True))))
