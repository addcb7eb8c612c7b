"""What stands between the faults of values, storage, loads and secrets, 37 to 68, and the data."""

from commerce_assets_tests.defences import Defence

STORAGE: tuple[Defence, ...] = (
    Defence(fault=37, file="api/pages.py", code="if item.keys() != {selector}:", without="if selector not in item:"),
    Defence(fault=38, file="api/pages.py", code="if key is None:", without="if False:"),
    Defence(
        fault=39,
        file="warehouse/segments.py",
        code="{invalid} AS {identifier(INVALID.name)},",
        without="CAST(NULL AS JSON) AS {identifier(INVALID.name)},",
    ),
    Defence(
        fault=40,
        file="warehouse/values.py",
        code="NOT IN ('{{', '[') THEN {identifier(column.name)} ->> '$' END",
        without="NOT IN ('{{', '[') AND {raw} SIMILAR TO '.(complete|refunded).' "
        "THEN {identifier(column.name)} ->> '$' END",
    ),
    Defence(fault=41, file="staging.py", code="if item.has_undeclared:", without="if False:"),
    Defence(
        fault=42,
        file="warehouse/tables.py",
        code='f"{identifier(column.name)} {column.type}" for column in endpoint.stored_columns',
        # What DuckDB makes of a column that it has seen nothing but null of.
        without="f\"{identifier(column.name)} {column.type if column.name == endpoint.primary_key else 'JSON'}\" "
        "for column in endpoint.stored_columns",
    ),
    Defence(
        fault=43,
        file="warehouse/values.py",
        code='return f"TRY_CAST(regexp_extract({certain}, {text(_INTEGER)}, 1) AS BIGINT)"',
        without="""return f"TRY_CAST(trim({raw}, chr(34)) AS BIGINT)\"""",
    ),
    Defence(
        fault=44,
        file="api/pages.py",
        code="if cursor is None:",
        without="if False:",
    ),
    Defence(
        fault=45,
        file="warehouse/values.py",
        code='1)) AS {column.type})"""',
        without='1))[:19] AS {column.type})"""',
    ),
    Defence(
        fault=46,
        file="warehouse/segments.py",
        code='belongs = f"({within(cursor, start, end)}) OR {cursor} IS NULL" if cursor else "TRUE"',
        without='belongs = "TRUE"',
    ),
    Defence(
        fault=47,
        file="api/pages.py",
        code="return Item(raw, key,",
        without="return Item(msgspec.Raw(msgspec.json.encode(msgspec.json.decode(raw))), key,",
    ),
    Defence(
        fault=48,
        file="api/pages.py",
        code='if b"\\\\" in body and _ESCAPED_SURROGATE.search(body):',
        without="if False:",
    ),
    Defence(
        fault=49,
        file="staging.py",
        code='return raw.replace(b"\\n", b" ")',
        without='return raw.replace(b\'"=\', b\'" =\').replace(b"\\n", b" ")',
    ),
    Defence(fault=50, file="api/pages.py", code="except msgspec.DecodeError:", without="except EOFError:"),
    Defence(
        fault=51,
        file="warehouse/database.py",
        code="_roll_back(connection)\n",
        without="connection.commit()\n",
    ),
    Defence(fault=52, file="staging.py", code="_to_disk(self._items)", without="self._items.flush()"),
    Defence(
        fault=53,
        file="warehouse/database.py",
        code="if match := _HOLDER.search(message):",
        without="if match := None:",
    ),
    Defence(fault=53, file="warehouse/database.py", code="if holder is None:", without="if True:"),
    Defence(
        fault=54,
        file="staging.py",
        code='f"the staging directory {folder} cannot be used ({error.strerror}). "',
        without='f"{error}. "',
    ),
    Defence(
        fault=54,
        file="warehouse/database.py",
        code='raise WarehouseError(_why_not(self.path, "created", error)) from error',
        without="raise",
    ),
    Defence(fault=55, file="warehouse/load.py", code="WHEN ({differs}) AND (", without="WHEN ("),
    Defence(
        fault=56,
        file="warehouse/load.py",
        code="AND {identifier(EXTRACTED_AT.name)} <= {instant(began_at)} ",
        without="",
    ),
    Defence(fault=57, file="warehouse/load.py", code="elif rows.count:", without="else:"),
    Defence(fault=58, file="assets.py", code="if not partitions.has_partition_key(day):", without="if False:"),
    Defence(
        fault=59,
        file="warehouse/database.py",
        code="connection.execute(\"SET TimeZone = 'UTC'\")",
        without="pass",
    ),
    Defence(
        fault=60,
        file="io_manager.py",
        code="return static_where_clause(dimension) if",
        without="""return f"{dimension.partition_expr} IN ('{dimension.partitions[0]}')" if""",
    ),
    Defence(
        fault=61,
        file="warehouse/tables.py",
        code="return add_missing_columns(connection, endpoint.name, endpoint.stored_columns)",
        without="return []",
    ),
    Defence(
        fault=62,
        file="warehouse/load.py",
        code="if pull.window else (not_before, None)",
        without="if pull.window else (pull.updated_after, None)",
    ),
    Defence(
        fault=63,
        file="warehouse/load.py",
        code="_remove_vanished(connection, endpoint, pull.window, staged.manifest.began_at)",
        without="pass",
    ),
    Defence(
        fault=64,
        file="warehouse/load.py",
        code="return (stored >= _DOUBTED_IF_NONE and not pulled) or (",
        without="return False and (",
    ),
    Defence(fault=65, file="api/responses.py", code="plain = unquote(message)", without="plain = message"),
    Defence(
        fault=66, file="warehouse/segments.py", code="reason = type(error).__name__", without="reason = str(error)"
    ),
    Defence(fault=67, file="access.py", code="if not secret.isprintable():", without="if False:"),
    Defence(
        fault=68,
        file="warehouse/database.py",
        code="self._mask = os.umask(0o077)",
        without="self._mask = os.umask(0o022)",
    ),
    Defence(
        fault=68,
        file="staging.py",
        code="os.open(path, os.O_RDWR | os.O_CREAT, 0o600)",
        without="os.open(path, os.O_RDWR | os.O_CREAT, 0o644)",
    ),
)
