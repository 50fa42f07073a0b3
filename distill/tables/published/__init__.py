"""Published tables as data, and our finished runs beside them: `configs/table/NAME.yaml`, no Hydra group.

`table_names()` and `load(NAME)` give the table; every cell of it holds the overrides of `distill train` that train
ours. `measure(table, records)` finds the finished runs of each cell, `compare` puts them against the baseline, and
`layouts` are all of it in the shapes of `distill table`.
"""

from distill.tables.published.comparison import Compared, compare
from distill.tables.published.content import Cell, Column, PublishedTable, Row
from distill.tables.published.layouts import layouts
from distill.tables.published.loading import DamagedTable, UnknownTable, load, table_names
from distill.tables.published.measured import Measured, measure

__all__ = [
    "Cell",
    "Column",
    "Compared",
    "DamagedTable",
    "Measured",
    "PublishedTable",
    "Row",
    "UnknownTable",
    "compare",
    "layouts",
    "load",
    "measure",
    "table_names",
]
