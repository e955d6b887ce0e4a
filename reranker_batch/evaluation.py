"""Quality of rankings by relevance judgments, before and after, with a significance test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.distribution import Distribution
from reranker_batch.errors import ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.ranked_lists import column_of, ranked_lists_of, read_ranked_lists
from reranker_batch.storage.values import list_lengths

DEPTH = 10
METRICS = {"ndcg_at_10": "nDCG@10", "rr_at_10": "RR@10", "recall_at_10": "R@10"}
"""Names in the report, and what ir-measures calls them."""

MAX_QUERIES = 20
"""How many of the queries that lost or gained most are listed."""

TEST = "paired t-test, two-sided"
_CONFIDENCE = 0.95
_TENTHS = [tenth / 10 for tenth in range(1, 10)]
_DIFFERENCES = (*(-tenth for tenth in reversed(_TENTHS)), -1e-9, 1e-9, *_TENTHS)

Values = Mapping[str, Mapping[str, float]]
"""Of each query, the value of each metric."""

Judgments = Mapping[str, Mapping[str, int]]
"""Of each query, the relevance of each judged document."""


@dataclass(frozen=True)
class QueryChange:
    """A metric of one query."""

    query_id: str
    before: float
    after: float


@dataclass(frozen=True)
class MetricChange:
    """A metric before and after, as means over the same queries; better and worse count queries."""

    queries: int
    before: float
    after: float
    better: int
    worse: int
    p_value: float | None
    """Chance of a mean difference at least as large, were there none; None with fewer than two queries."""
    confidence_95: tuple[float, float] | None
    """Interval of the mean difference, by the same test."""
    differences: Distribution
    largest_losses: tuple[QueryChange, ...]
    largest_gains: tuple[QueryChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            **{name: getattr(self, name) for name in ("queries", "before", "after")},
            "difference": self.after - self.before,
            "better": self.better,
            "worse": self.worse,
            "test": TEST,
            "p_value": self.p_value,
            "confidence_95": None if self.confidence_95 is None else list(self.confidence_95),
            "differences": self.differences.to_dict(),
            "largest_losses": [asdict(change) for change in self.largest_losses],
            "largest_gains": [asdict(change) for change in self.largest_gains],
        }


def require_measures() -> None:
    """Raises ConfigError where ir-measures is not installed."""
    _measures()


def metrics_of(output: Folder, *, judgments: Judgments, earlier: Folder | None, keeps_all: bool) -> dict[str, Any]:
    """Metrics of an output for report.json, and what changed since the first stage and since an earlier output.

    Of the first stage only where the output keeps all candidates, see `evaluate_first_stage`.

    Raises:
        ConfigError: ir-measures is not installed.
        CommitError: A part cannot be read.
    """
    values = evaluate_output(output, judgments)
    first_stage = evaluate_first_stage(output, judgments) if keeps_all else None
    before = None if earlier is None else evaluate_output(earlier, judgments)
    return {
        "queries": len(values),
        "means": means_of(values),
        "since_first_stage": None if first_stage is None else _changes(first_stage, values),
        "since_earlier": None if before is None else _changes(before, values),
    }


def _changes(before: Values, after: Values) -> dict[str, Any]:
    return {name: change.to_dict() for name, change in compare_metrics(before, after).items()}


def judgments_of(qrels: pa.Table) -> Judgments:
    """Rows of `QRELS` by query."""
    judgments: dict[str, dict[str, int]] = {}
    for row in zip(*(qrels[name].to_pylist() for name in ("query_id", "doc_id", "relevance")), strict=True):
        judgments.setdefault(row[0], {})[row[1]] = row[2]
    return judgments


def evaluate_output(output: Folder, judgments: Judgments) -> Values:
    """Metrics of every judged query that has results in an output. Memory grows with the judged queries alone.

    Raises:
        ConfigError: ir-measures is not installed.
        CommitError: A part cannot be read.
    """
    return evaluate_lists(read_ranked_lists(output), judgments)


def evaluate_first_stage(output: Folder, judgments: Judgments) -> Values:
    """The same for the order in which the candidates came.

    That order is known of kept candidates only: it is the first stage's where the output keeps all candidates.

    Raises:
        ConfigError: ir-measures is not installed.
        CommitError: A part cannot be read.
    """
    tables = _judged(read_ranked_lists(output, columns=("doc_id", "index")), judgments)
    return evaluate_lists((_by_index(table) for table in tables), judgments)


def evaluate_lists(tables: Iterable[pa.Table], judgments: Judgments) -> Values:
    """Metrics of the judged queries of tables with `query_id` and `doc_id` as in `RANKED_LISTS`.

    Of several rows with one query id the first one counts, of several places of a document the best.
    """
    measures = _measures()
    values: dict[str, dict[str, float]] = {}
    for table in _judged(tables, judgments):
        run: dict[str, dict[str, float]] = {}
        for query_id, doc_ids in zip(table["query_id"].to_pylist(), table["doc_id"].to_pylist(), strict=True):
            if query_id not in values:
                run.setdefault(query_id, _scored(doc_ids))
        judged = {query_id: judgments[query_id] for query_id in run}
        for metric in _calculated(measures, judged, run):
            values.setdefault(metric.query_id, {})[measures[metric.measure]] = float(metric.value)
    return values


def means_of(values: Values) -> dict[str, float | None]:
    """Each metric over all queries; None without any."""
    return {name: float(np.mean([of[name] for of in values.values()])) if values else None for name in METRICS}


def compare_metrics(before: Values, after: Values) -> dict[str, MetricChange]:
    """Each metric over the queries of either side, as pairs; a query without results on one side has 0 there."""
    query_ids = sorted(before.keys() | after.keys())
    zeros = dict.fromkeys(METRICS, 0.0)
    return {
        name: _change(
            query_ids,
            np.array([before.get(query_id, zeros)[name] for query_id in query_ids], dtype=np.float64),
            np.array([after.get(query_id, zeros)[name] for query_id in query_ids], dtype=np.float64),
        )
        for name in METRICS
        if query_ids
    }


def _change(query_ids: Sequence[str], before: npt.NDArray[Any], after: npt.NDArray[Any]) -> MetricChange:
    differences = after - before
    p_value, confidence = paired_t_test(differences)
    order = np.argsort(differences, kind="stable").tolist()
    changes = [QueryChange(query_ids[at], float(before[at]), float(after[at])) for at in order]
    return MetricChange(
        queries=len(query_ids),
        before=float(before.mean()),
        after=float(after.mean()),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        p_value=p_value,
        confidence_95=confidence,
        differences=Distribution.of(differences, _DIFFERENCES),
        largest_losses=tuple(change for change in changes[:MAX_QUERIES] if change.after < change.before),
        largest_gains=tuple(change for change in changes[: -MAX_QUERIES - 1 : -1] if change.after > change.before),
    )


def paired_t_test(differences: npt.NDArray[np.float64]) -> tuple[float | None, tuple[float, float] | None]:
    """Two-sided p-value that the mean is 0, and the 95 % interval of the mean; None with fewer than two differences."""
    from scipy.special import stdtr, stdtrit  # comes with ir-measures

    number = len(differences)
    if number < 2:
        return None, None
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(number)
    if not error:
        return float(mean == 0), (mean, mean)
    reach = float(stdtrit(number - 1, (1 + _CONFIDENCE) / 2)) * error
    return float(2 * stdtr(number - 1, -abs(mean) / error)), (mean - reach, mean + reach)


def _measures() -> dict[Any, str]:
    """Measures of ir-measures with their names in the report."""
    try:
        import ir_measures
    except ImportError:
        raise ConfigError("Metrics need ir-measures. Install it with: pip install 'reranker-batch[eval]'.") from None
    return {ir_measures.parse_measure(measure): name for name, measure in METRICS.items()}


def _calculated(measures: dict[Any, str], judged: Judgments, run: Mapping[str, Mapping[str, float]]) -> Iterator[Any]:
    import ir_measures

    return iter(ir_measures.iter_calc(list(measures), judged, run) if run else ())


def _judged(tables: Iterable[pa.Table], judgments: Judgments) -> Iterator[pa.Table]:
    """The rows of judged queries, where there are any."""
    query_ids = pa.array(judgments.keys(), pa.large_string())
    for table in tables:
        rows = table.filter(pc.is_in(table["query_id"], query_ids))
        if len(rows):
            yield rows


def _scored(doc_ids: Sequence[str]) -> dict[str, float]:
    """Scores that have no ties and give the documents in this order."""
    first = list(dict.fromkeys(doc_ids))[:DEPTH]
    return {doc_id: float(-place) for place, doc_id in enumerate(first)}


def _by_index(table: pa.Table) -> pa.Table:
    """The documents of each query in the order in which they came."""
    documents, index = column_of(table, "doc_id"), column_of(table, "index")
    lengths = list_lengths(index)
    order = np.lexsort((index.flatten().to_numpy(), np.repeat(np.arange(len(lengths)), lengths)))
    return ranked_lists_of(column_of(table, "query_id"), lengths, {"doc_id": documents.flatten().take(pa.array(order))})
