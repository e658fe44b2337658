"""Columns of a data set beside those that the encoder reads."""

from __future__ import annotations

GROUP = "group"
"""Column with the group of each row: rows of one group are never each other's negatives.

It holds for the first two columns of a row, anchor and positive; ``group_NAME`` is the group of another column.
"""

SOURCE = "dataset_name"
"""Column with the name of the data set of a row, where there are several; sentence-transformers' name for it."""


def group_of(column: str) -> str:
    """Return the name of the column that has the groups of another column than anchor and positive."""
    return f"{GROUP}_{column}"


def is_group_column(name: str) -> bool:
    """Whether a column has groups, which the encoder does not read."""
    return name == GROUP or name.startswith(group_of(""))
