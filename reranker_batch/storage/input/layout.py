"""The layouts that an input may have, behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from reranker_batch.config import Columns, Reading
from reranker_batch.storage.input.candidates import UnitCandidates, UnitTable
from reranker_batch.storage.input.columns import FileColumns, InputColumns, Shape, Wanted
from reranker_batch.storage.input.input_file import OpenedFile
from reranker_batch.storage.input.nested import NestedLayout
from reranker_batch.storage.input.pairs import PairsLayout
from reranker_batch.storage.input.query_runs import QueryRuns
from reranker_batch.storage.input.statistics import Groups


class InputLayout(Protocol):
    """How rows of the input hold queries and candidates."""

    @property
    def names(self) -> Columns:
        """The columns of the config."""

    @property
    def is_row_a_query(self) -> bool:
        """Whether a row holds all candidates of its query, else one of them."""

    def inspect(self, schema: pa.Schema, file: str) -> FileColumns:
        """Find the columns of the config in a file.

        Raises:
            InputError: A column is missing, doubled or of the wrong type. Names file, column and config key.
        """

    def num_pairs(self, groups: Groups, schema: pa.Schema) -> tuple[int, ...]:
        """Pairs of each row group according to the footer."""

    def leaf_of(self, name: str) -> tuple[str, str | None]:
        """Column, and field of the structs in its lists, of a candidate's passthrough column."""

    def id_fields(self, schema: pa.Schema, shape: Shape | None) -> list[pa.Field] | None:
        """Columns or fields that could hold document ids; None if the file does not show its shape."""

    def own_names(self, schema: pa.Schema) -> set[str]:
        """What a file with these columns says itself, or alone can say, so that the names of its folders do not."""

    def scan_queries(self, root: str, files: Sequence[OpenedFile]) -> list[QueryRuns] | None:
        """Where the queries of each file begin; None if each row is a query.

        Raises:
            InputError: A query stands in two places, or a file cannot be read.
        """

    def wanted(self, columns: InputColumns) -> Wanted:
        """The columns and fields that are read for scoring."""

    def lists(self, shape: Shape | None) -> set[str]:
        """The columns that hold a list with an element for each candidate."""

    def candidates(self, rows: UnitTable, columns: InputColumns) -> UnitCandidates:
        """Split rows into queries and candidates.

        Raises:
            pyarrow.ArrowInvalid: A value does not fit the type that its column has over all files.
        """


def layout_of(reading: Reading) -> InputLayout:
    """The layout that rows are read with."""
    if reading.layout == "pairs":
        return PairsLayout(reading.columns)
    return NestedLayout(reading.columns, is_reference=reading.prepared == "reference")
