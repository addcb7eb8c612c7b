"""`python -m bench.check <file> <query>`: query rows and cents of a DuckDB file, in a separate process.

The benchmark itself must stay small, because a process starts with the peak memory of its parent.
"""

import json
import sys

import duckdb

if __name__ == "__main__":
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{sys.argv[1]}' AS found (READ_ONLY)")
        connection.execute("USE found")
        rows, amount = connection.execute(sys.argv[2]).fetchone()
        print(json.dumps([rows, round((amount or 0) * 100)]))
