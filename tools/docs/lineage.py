"""Derive the column lineage of the marts from their SQL, with sqlglot.

Written into the package by `make docs`, because parsing takes a second, which every run would pay.
"""

import json
from collections.abc import Mapping
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from commerce_assets.analytics.build import SQL, shared_sql
from commerce_assets.analytics.tables import MODELS, Model
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.row_history import VALID_FROM, VALID_TO, history_of

_DIALECT = "duckdb"
# A version is valid from its change on.
_OF_HISTORY = {VALID_FROM.name: "updated_at", VALID_TO.name: "updated_at"}

Macro = tuple[list[str], exp.Expr]
Origin = tuple[str, str]
"""An asset and a column of its table."""


def lineage_json() -> str:
    """Return, as JSON, the columns that each column of each mart is computed from: `asset.column`."""
    macros, views = _shared()
    found = {model.name: _lineage(model, macros, views) for model in MODELS}
    return json.dumps(found, indent=1) + "\n"


def _shared() -> tuple[dict[str, Macro], dict[str, exp.Expr]]:
    """Return the macros and views that every model may use; views without macros."""
    macros: dict[str, Macro] = {}
    views: dict[str, exp.Expr] = {}
    for statement in sqlglot.parse(shared_sql("UTC"), read=_DIALECT):
        if not isinstance(statement, exp.Create):
            continue
        body = _without_macros(statement.expression, macros)
        if statement.kind == "MACRO":
            signature = statement.this
            macros[signature.this.name] = ([each.name for each in signature.expressions], body)
        else:
            views[statement.this.name] = body
    return macros, views


def _without_macros(query: exp.Expr, macros: Mapping[str, Macro]) -> exp.Expr:
    """Replace each call of a macro by its body, with the arguments in the places of the parameters."""

    def inlined(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Anonymous) or node.name.lower() not in macros:
            return node
        parameters, body = macros[node.name.lower()]
        arguments = dict(zip(parameters, (each.transform(inlined) for each in node.expressions), strict=True))
        return exp.paren(
            body.transform(
                lambda each: (
                    exp.paren(arguments[each.name])
                    if isinstance(each, exp.Column) and not each.table and each.name in arguments
                    else each
                )
            )
        )

    return query.transform(inlined)


def _lineage(model: Model, macros: Mapping[str, Macro], views: Mapping[str, exp.Expr]) -> dict[str, list[str]]:
    query = sqlglot.parse_one((SQL / f"{model.name}.sql").read_text(), read=_DIALECT)
    query = _without_macros(query, macros)
    own = query.args.get("with_")
    shared = [
        exp.CTE(this=view.copy(), alias=exp.TableAlias(this=exp.to_identifier(name))) for name, view in views.items()
    ]
    query.set("with_", exp.With(expressions=[*shared, *(own.expressions if own else [])]))
    schema: dict[str, Any] = {
        endpoint.name: {column.name: str(column.type) for column in endpoint.stored_columns} for endpoint in ENDPOINTS
    }
    for endpoint in ENDPOINTS:
        if endpoint.update_filter:
            schema[history_of(endpoint)] = schema[endpoint.name] | dict.fromkeys(_OF_HISTORY, "TIMESTAMPTZ")
    scope = build_scope(qualify(query, schema=schema, dialect=_DIALECT))
    if scope is None:
        raise TypeError(f"{model.name}.sql is not a query")
    origins = _Origins()
    return {
        column.name: sorted(f"{asset}.{name}" for asset, name in origins.of_output(scope, column.name))
        for column in model.columns
    }


class _Origins:
    """Finds the columns of endpoints behind those of a qualified query: what their values are computed from.

    Conditions within a value count, such as those of CASE and FILTER; those of joins and WHERE do not. A value without
    a column, such as `count(*)` or `row_number()`, is computed from its rows: from the columns of its window, else
    those of WHERE, else those of GROUP BY.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], set[Origin]] = {}

    def of_output(self, scope: Scope, column: str) -> set[Origin]:
        key = (id(scope), column)
        if key not in self._found:
            self._found[key] = (
                self._of_union(scope, column) if scope.set_operation_scopes else self._of_select(scope, column)
            )
        return self._found[key]

    def _of_union(self, scope: Scope, column: str) -> set[Origin]:
        if scope.expression.args.get("by_name"):
            return set().union(
                *(self.of_output(side, column) for side in scope.set_operation_scopes if column in _names(side))
            )
        place = _names(scope).index(column)
        return set().union(*(self.of_output(side, _names(side)[place]) for side in scope.set_operation_scopes))

    def _of_select(self, scope: Scope, column: str) -> set[Origin]:
        selects = _query(scope).selects
        named = [each for each in selects if each.alias_or_name == column]
        if not named and any(each.find(exp.Columns) for each in selects):
            # `COLUMNS(*)` computes each column of the source from that column.
            return set().union(*(self._of_source(source, column) for _, source in scope.selected_sources.values()))
        (projection,) = named
        return self._of_expression(scope, projection) or self._of_rows(scope, projection)

    def _of_expression(self, scope: Scope, expression: exp.Expr) -> set[Origin]:
        found: set[Origin] = set()
        for node in expression.walk(prune=lambda each: isinstance(each, exp.Window | exp.Query)):
            if isinstance(node, exp.Column):
                found |= self._of_source(scope.sources[node.table], node.name)
            elif isinstance(node, exp.Window):
                found |= self._of_expression(scope, node.this)
            elif isinstance(node, exp.Query):
                inner = next(each for each in scope.subquery_scopes if each.expression is node.unnest())
                found |= self.of_output(inner, _query(inner).selects[0].alias_or_name)
        return found

    def _of_rows(self, scope: Scope, projection: exp.Expr) -> set[Origin]:
        select = scope.expression
        windows = [*projection.find_all(exp.Window)]
        windows += [each for each in select.args.get("windows") or () if each.name in {used.alias for used in windows}]
        parts = [
            part for each in windows for part in (*each.args.get("partition_by", ()), each.args.get("order")) if part
        ]
        rows = parts or [part for part in (select.args.get("where") or select.args.get("group"),) if part]
        return set().union(*(self._of_expression(scope, each) for each in rows))

    def _of_source(self, source: Scope | exp.Expr, column: str) -> set[Origin]:
        if isinstance(source, Scope):
            return self.of_output(source, column)
        asset = source.name.removesuffix("_history")
        return {(asset, column if asset == source.name else _OF_HISTORY.get(column, column))}


def _names(scope: Scope) -> list[str]:
    if not scope.set_operation_scopes:
        return list(_query(scope).named_selects)
    return list(dict.fromkeys(name for side in scope.set_operation_scopes for name in _names(side)))


def _query(scope: Scope) -> exp.Query:
    if not isinstance(scope.expression, exp.Query):
        raise TypeError(f"not a query: {scope.expression.sql(_DIALECT)}")
    return scope.expression
