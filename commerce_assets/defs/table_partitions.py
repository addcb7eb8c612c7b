"""Dagster's partition keys as conditions on the rows of a table."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, cast
from zoneinfo import ZoneInfo

import dagster as dg

from commerce_assets.warehouse.partitions import Dimension, KeyDimension, PartitionError, Partitions, TimeDimension
from commerce_assets.warehouse.sql import identifier

# A DATE determines the partition of a row if no two partitions share a day, even one of 23 hours.
_SHORTEST_DAY_SECONDS = 20 * 3600


def partitions_of(
    definition: dg.PartitionsDefinition[Any], expression: str | Mapping[str, str] | None, keys: Sequence[str]
) -> Partitions:
    """The rows of the keys, by the asset's metadata `partition_expr`.

    Raises:
        PartitionError: The metadata names no column, or not one for each dimension.
    """
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return _of_several_dimensions(definition, expression, keys)
    if not isinstance(expression, str):
        raise _no_expression('"day"')
    return Partitions(((_dimension(definition, expression, keys),),) if keys else ())


def _of_several_dimensions(
    definition: dg.MultiPartitionsDefinition, expressions: object, keys: Sequence[str]
) -> Partitions:
    names = [part.name for part in definition.partitions_defs]
    if not isinstance(expressions, Mapping) or not set(names) <= set(expressions):
        raise _no_expression("{" + ", ".join(f'"{name}": "..."' for name in names) + "}")
    by_name = [definition.get_partition_key_from_str(key).keys_by_dimension for key in keys]

    def dimensions(selected: Mapping[str, Sequence[str]]) -> tuple[Dimension, ...]:
        return tuple(
            _dimension(part.partitions_def, expressions[part.name], selected[part.name])
            for part in definition.partitions_defs
        )

    values = {name: list(dict.fromkeys(key[name] for key in by_name)) for name in names}
    if keys and prod(map(len, values.values())) == len(set(keys)):
        return Partitions((dimensions(values),))
    return Partitions(tuple(dimensions({name: [key[name]] for name in names}) for key in by_name))


def _dimension(definition: dg.PartitionsDefinition[Any], expression: str, keys: Sequence[str]) -> Dimension:
    # A column may be called like a keyword, `at` or `order`.
    expression = identifier(expression) if expression.isidentifier() else expression
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return KeyDimension(expression=expression, keys=tuple(keys))
    zone = ZoneInfo(definition.timezone)
    first = definition.time_window_for_partition_key(keys[0])
    # The subset of a time window definition knows its windows, adjacent ones merged; its public type does not.
    windows = cast("Any", definition.subset_with_partition_keys(keys)).included_time_windows
    return TimeDimension(
        expression=expression,
        windows=tuple((window.start.astimezone(zone), window.end.astimezone(zone)) for window in windows),
        keys=tuple(keys),
        shorter_than_a_day=first.end.timestamp() - first.start.timestamp() < _SHORTEST_DAY_SECONDS,
    )


def _no_expression(example: str) -> PartitionError:
    return PartitionError(
        f'the metadata does not name the column of the partitions. Fix: add metadata={{"partition_expr": {example}}}.'
    )
