"""`python -m bench.check <file> <query>`: rows and cents that lie in a DuckDB file, in a process of its own.

The benchmark itself stays small, for its own peak would be that of every process that it starts.
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
