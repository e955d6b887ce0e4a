"""Reranking as a stage of a Ray Dataset: actors hold the model, and no row comes to the driver."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.util.annotations import RayDeprecationWarning

from reranker_batch.config import RuntimeConfig, checked
from reranker_batch.config.columns import ColumnsConfig, as_list
from reranker_batch.core.backend import ScoringBackend, Where
from reranker_batch.core.limits import RequestLimits
from reranker_batch.errors import ConfigError, InputError, RowError
from reranker_batch.memory_table import MemoryRows, OnFailed, TableSettings
from reranker_batch.pipeline import FinishedUnit
from reranker_batch.printing import set_up_logging
from reranker_batch.reranker import Reranker, model_to_load
from reranker_batch.runtime.placement import Placement, place
from reranker_batch.runtime.waiting import nodes
from reranker_batch.storage.values import conform_table, id_strings, list_values, one_chunk

logger = logging.getLogger(__name__)

NAME = "the Ray dataset"
"""In messages; and ids that begin so were made of a place, which a row of a dataset does not have."""
_BATCH_QUERIES = 128
_PARTITIONS_A_CPU = 8
_ROWS = "rows"
_OF_A_PLACE = ("file", "row", "request_ids")
"""Columns of the nested output that tell where a row of a file stands."""
_RESTARTS = 4


@dataclass(frozen=True)
class _Stage:
    """What a replica has to know."""

    settings: TableSettings
    backend: ScoringBackend
    limits: RequestLimits
    where: Where
    on_failed: OnFailed


def rerank_dataset(
    dataset: Any,
    settings: TableSettings,
    model: str | Reranker,
    *,
    on_failed: OnFailed,
    replicas: int | Literal["auto"],
) -> Any:
    """A dataset of the reranked rows, which computes nothing until it is read.

    In the pairs layout the rows of a query may lie in any blocks: they are brought together by a hash of the query id,
    in the order of their document ids.

    Raises:
        ConfigError, InputError, ModelError: An argument, a column or the model cannot be used, as far as that can be
            seen without computing the dataset.
    """
    runtime = checked(RuntimeConfig, {"max_replicas": replicas}, f"replicas={replicas!r} is wrong")
    settings = replace(settings, name=NAME)
    _require_ids(settings.config.columns)
    _look_at_columns(dataset, settings)
    source = model_to_load(model)
    placement = place(runtime, source.backend.resources, nodes())
    where = Where(placement.device, placement.threads, source.limits.max_pair_tokens, source.token_budget)
    stage = _Stage(settings, source.backend, source.limits, where, on_failed)
    if settings.config.layout == "pairs":
        dataset = _by_query(dataset, settings.config.columns)
    with warnings.catch_warnings():
        # Restarts without end are Ray Data's default, and it has no named parameters yet to bound them.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return dataset.map_batches(RerankingActor, fn_constructor_args=(stage,), **_pool(placement))


def _pool(placement: Placement) -> dict[str, Any]:
    return {
        "batch_format": "pyarrow",
        "batch_size": _BATCH_QUERIES,
        "zero_copy_batch": True,
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=placement.max_replicas),
        "num_cpus": placement.num_cpus,
        "num_gpus": placement.num_gpus,
        "max_restarts": _RESTARTS,
        "max_task_retries": _RESTARTS,
    }


def _require_ids(columns: ColumnsConfig) -> None:
    if columns.query_id is None:
        raise ConfigError("query_id=None is not possible for a Ray Dataset, whose rows have no place to make ids of.")


def _look_at_columns(dataset: Any, settings: TableSettings) -> None:
    """Raises ConfigError or InputError where the columns are known and one is missing or of a wrong type."""
    known = dataset.schema(fetch_if_missing=False)
    schema = getattr(known, "base_schema", None)
    if isinstance(schema, pa.Schema):
        if str(settings.config.columns.query_id).partition(".")[0] not in schema.names:
            raise _without_ids(settings.config.columns)
        settings.read(schema.empty_table())


def _without_ids(columns: ColumnsConfig) -> InputError:
    return InputError(
        f"{NAME} has rows without a query id ({columns.query_id!r}), and ids can only be made of places in a file. Add "
        "a column with ids, or set query_id."
    )


def _by_query(dataset: Any, columns: ColumnsConfig) -> Any:
    """A row for each query, with the list of its pairs: a block may be split between rows, never inside one."""
    key = str(columns.query_id)
    cpus = sum(node.cpus for node in nodes())
    together = dataset.repartition(max(1, int(_PARTITIONS_A_CPU * cpus)), keys=[key])
    names = [str(columns.doc_id), *map(str, as_list(columns.document))]
    return together.map_batches(
        _packed, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, fn_kwargs={"key": key, "then": names}
    )


def _packed(block: pa.Table, *, key: str, then: list[str]) -> pa.Table:
    """The rows of each query as a list, sorted by the columns of `then` that are there."""
    if not len(block):
        return pa.table({_ROWS: pa.array([], pa.large_list(pa.struct(list(block.schema))))})
    if key not in block.column_names:
        raise InputError(f"Column {key!r} is missing in {NAME}; found: {', '.join(block.column_names)}. Set query_id.")
    known = [name for name in then if name in block.column_names and _can_be_sorted(block.schema.field(name).type)]
    block = block.take(pc.sort_indices(block, [(name, "ascending") for name in dict.fromkeys([key, *known])]))
    ids = id_strings(one_chunk(block[key].chunks, block.schema.field(key).type))
    codes = ids.dictionary_encode(null_encoding="encode").indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    offsets = pa.array(np.append(starts, len(block)).astype(np.int64))
    rows = one_chunk(block.to_struct_array().chunks, pa.struct(list(block.schema)))
    return pa.table({_ROWS: pa.LargeListArray.from_arrays(offsets, rows)})


def _can_be_sorted(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(data_type) or types.is_large_string(data_type) or types.is_integer(data_type))


class RerankingActor:
    """One copy of the model; takes queries, in lists of pairs or as rows, and gives the rows of the output."""

    def __init__(self, stage: _Stage) -> None:
        set_up_logging()
        self._stage = stage
        self._failed: Counter[str] = Counter()
        encoder = stage.backend.load_encoder()
        self._reranker = Reranker.loaded(stage.backend, encoder, stage.limits, stage.where)

    def __call__(self, batch: pa.Table) -> pa.Table:
        settings = self._stage.settings
        table = _unpacked(batch) if settings.config.layout == "pairs" else batch
        given = _with_own_ids(settings.read(table), settings)
        finished = settings.rerank(given, self._reranker)
        self._tell_of_failed(given, finished)
        part = conform_table(finished.part, finished.schema)
        return part.drop_columns([name for name in _OF_A_PLACE if name in part.column_names])

    def _tell_of_failed(self, given: MemoryRows, finished: FinishedUnit) -> None:
        """Raises RowError with `on_failed="raise"`; else the log counts what this replica has left out so far."""
        if not len(finished.dead_letters):
            return
        self._failed.update(finished.counts.dead_letters)
        first = finished.dead_letters.slice(0, 1).to_pylist()[0]
        query_id = given.rows.queries["query_id"][first["query_at"]].as_py()
        message = f"The first is at query {query_id!r}: {first['message']}"
        if self._stage.on_failed == "raise":
            raise RowError(f"Candidates cannot be scored. {message}", reason_code=first["reason_code"])
        counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self._failed.items()))
        logger.warning("Not scored by this replica so far: %s. %s The result is without them.", counts, message)


def _unpacked(batch: pa.Table) -> pa.Table:
    rows = list_values(one_chunk(batch[_ROWS].chunks, batch.schema.field(_ROWS).type))
    return pa.Table.from_struct_array(rows)


def _with_own_ids(given: MemoryRows, settings: TableSettings) -> MemoryRows:
    """Without ids that were made of places: a document has its query's id and its index instead.

    Raises:
        InputError: A query has no id.
    """
    queries, candidates = given.rows.queries, given.rows.candidates
    if pc.any(pc.starts_with(queries["query_id"], f"{NAME}#")).as_py():
        raise _without_ids(settings.config.columns)
    is_made = pc.starts_with(candidates["doc_id"], f"{NAME}#")
    if not pc.any(is_made).as_py():
        return given
    of_query = queries["query_id"].take(candidates["query_at"])
    index = candidates["index"].cast(pa.large_string())
    own = pc.binary_join_element_wise(of_query, index, pa.scalar("/", pa.large_string()))
    at = candidates.column_names.index("doc_id")
    candidates = candidates.set_column(at, "doc_id", pc.if_else(is_made, own, candidates["doc_id"]))
    return replace(given, rows=replace(given.rows, candidates=candidates))
