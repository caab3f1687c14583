"""Parquet -> a table, if it fits into memory: a few megabytes may stand for billions of cells."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sweep.data.files import DataFile, memory_left

CELL_BYTES = 60
"""About what a short text takes in Python."""


def read(file: DataFile, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a file with those of the columns that it has, or with all if it lacks one.

    Raises:
        ValueError: It is no Parquet, or takes more memory than there is.
    """
    import pyarrow.parquet

    with file.binary() as stream:
        parquet = pyarrow.parquet.ParquetFile(stream)
        metadata, names = parquet.metadata, parquet.schema_arrow.names
        if set(columns) <= set(names):
            names = list(columns)
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        size = metadata.num_rows * len(names) * CELL_BYTES + sum(g.total_byte_size for g in groups)
        if size > memory_left():
            raise ValueError(
                f"its {metadata.num_rows:,} rows take about {size / 2**30:.1f} GiB, and there are"
                f" {memory_left() / 2**30:.1f} GiB for them, half of the memory that is free"
            )
        # The nullable types keep integers beside an empty cell integers.
        stream.seek(0)
        return pd.read_parquet(stream, columns=names, dtype_backend="numpy_nullable")
