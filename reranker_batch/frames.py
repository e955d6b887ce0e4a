"""Rerank tables: polars, pandas and Arrow in this process, datasets of Ray wherever Ray computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import polars as pl
import pyarrow as pa

from reranker_batch.config import ColumnsConfig, InputConfig, OutputConfig, checked
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.memory_table import NAME, OnFailed, TableSettings, tell_of_failed
from reranker_batch.reranker import Reranker, checked_top_n
from reranker_batch.storage.values import conform_table

Frame = TypeVar("Frame")


def rerank_table(
    frame: Frame,
    *,
    model: str | Reranker,
    query: str = "query",
    candidates: str | Sequence[str] = "candidates",
    document: str | Sequence[str] = "text",
    doc_id: str | None = "doc_id",
    query_id: str | None = "query_id",
    separator: str = " ",
    layout: Literal["nested", "pairs"] = "nested",
    top_n: int | None = None,
    output_layout: Literal["pairs", "nested"] = "pairs",
    passthrough: Sequence[str] = (),
    return_documents: bool = False,
    on_failed: OnFailed = "warn",
    replicas: int | Literal["auto"] = "auto",
) -> Frame:
    """Rerank a polars, pandas or Arrow table, or a Ray Dataset: the rows of a job's output, in the same kind.

    The names and layouts are keys of a job's `input.columns`, `input.layout` and `output.layout`: paths such as
    `query.text`, several texts to join and several lists of candidates are fine, and rows of pairs may stand in any
    order. A model given by name is loaded for this call with `Reranker.open(model)`. Candidates that cannot be scored
    are left out, and a warning counts them by reason; with `on_failed="raise"` they are an error.

    A Ray Dataset gives a dataset that computes nothing until it is read: `replicas` actors hold the model, as many as
    fit where it is "auto".

    Raises:
        ConfigError: An argument is wrong.
        InputError: A column is missing or cannot be used; the message calls the table `table`.
        ModelError: The model cannot be used.
        RowError: A candidate cannot be scored, with `on_failed="raise"`.
    """
    names = {"query_id": query_id, "query": query, "candidates": candidates, "doc_id": doc_id, "document": document}
    config = _checked_input(layout, {**names, "separator": separator}, passthrough)
    settings = TableSettings(config, _checked_output(output_layout, top_n, on_failed), output_layout, return_documents)
    result: Frame = _reranked(frame, settings, model, on_failed, replicas)
    return result


def _reranked(
    frame: Any, settings: TableSettings, model: str | Reranker, on_failed: OnFailed, replicas: int | Literal["auto"]
) -> Any:
    ray_data = sys.modules.get("ray.data")
    if ray_data is not None and isinstance(frame, ray_data.Dataset):
        from reranker_batch.runtime.dataset import rerank_dataset

        return rerank_dataset(frame, settings, model, on_failed=on_failed, replicas=replicas)
    if replicas != "auto":
        raise ConfigError(f"replicas={replicas!r} is for a Ray Dataset; a table in memory has one. Leave it out.")
    table, give_back = _to_arrow(frame, settings.config.columns)
    given = settings.read(table)
    finished = settings.rerank(given, model if isinstance(model, Reranker) else Reranker.open(model))
    tell_of_failed(finished, on_failed)
    return give_back(conform_table(finished.part, finished.schema))


def _checked_input(layout: str, names: dict[str, Any], passthrough: Sequence[str]) -> InputConfig:
    columns = {name: _listed(value) for name, value in {**names, "passthrough": passthrough}.items()}
    return checked(
        InputConfig, {"path": NAME, "layout": layout, "columns": columns}, "The columns of the table are wrong"
    )


def _listed(value: Any) -> Any:
    """Any sequence of names as a list, which is what a config has."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _checked_output(layout: str, top_n: int | None, on_failed: str) -> int | None:
    """`top_n` as a plain number."""
    checked(OutputConfig, {"path": NAME, "layout": layout}, "output_layout is wrong")
    if on_failed not in ("warn", "raise"):
        raise ConfigError(f"on_failed={on_failed!r} is neither 'warn' nor 'raise'.")
    return checked_top_n(top_n)


def _to_arrow(frame: Any, columns: ColumnsConfig) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    """The table in Arrow, and a function back to the caller's type."""
    if isinstance(frame, pa.Table):
        return frame, lambda table: table
    if isinstance(frame, pl.DataFrame):
        return frame.to_arrow(), pl.from_arrow
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return _from_pandas(frame, columns), pa.Table.to_pandas
    hint = " Call .collect() first." if isinstance(frame, pl.LazyFrame) else ""
    raise ConfigError(
        f"{type(frame).__name__} is no table: a polars, pandas or Arrow table or a Ray Dataset is expected.{hint}"
    )


def _from_pandas(frame: Any, columns: ColumnsConfig) -> pa.Table:
    """All columns, with those of an index that have names; if they have no type in Arrow, only the columns needed."""
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    frame = frame.reset_index(level=named) if named else frame
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError):
        needed = _names(columns)
        frame = frame.loc[:, [name in needed for name in frame.columns]]
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"The pandas table cannot be read as Arrow: {error}. Give each column a name of its own and values of one "
            "type."
        ) from None


def _names(columns: ColumnsConfig) -> set[str]:
    """The columns that are read, and those that paths may lead into."""
    values = columns.model_dump(exclude={"separator"}).values()
    names = {str(name) for value in values for name in (value if isinstance(value, list) else [value])}
    return names | {name.partition(".")[0] for name in names}
