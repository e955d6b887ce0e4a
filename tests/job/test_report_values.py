"""What a report tells of the values in the output is what the output has, whatever attempt made its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from engine import NAN, NanScorer, SmallJob
from tables import nested_table, random_groups, write

from reranker_batch import RunReport
from reranker_batch.core.unit_summary import SCORE_EDGES, TOKEN_EDGES


def check(report: RunReport, output: Path) -> None:
    """With all candidates kept the output has every pair with a score."""
    rows = pl.read_parquet(output / "scores" / "part-*.parquet")
    scores, tokens = report.histograms["relevance_score"], report.histograms["pair_tokens"]
    lengths = (rows["query_tokens"] + rows["document_tokens"]).to_numpy()
    for histogram, values, edges in (
        (scores, rows["relevance_score"].to_numpy(), SCORE_EDGES),
        (tokens, lengths, TOKEN_EDGES),
    ):
        counts, _ = np.histogram(values.astype(np.float64), [-np.inf, *edges, np.inf])
        assert histogram.counts == counts.tolist()
        assert histogram.count == len(rows) == report.totals.scored
        assert histogram.mean is not None
        assert np.isclose(histogram.mean, values.astype(np.float64).mean())


def test_histograms_and_examples_cover_the_parts_of_every_attempt(tmp_path: Path) -> None:
    groups = [
        (query_id, query, [(doc_id, f"{text} {NAN}" if doc_id.endswith("-0") else text) for doc_id, text in found])
        for query_id, query, found in random_groups(9, max_candidates=5, seed=3)
    ]
    write(nested_table(groups), tmp_path / "in.parquet")
    job, output = (
        SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out"), unit_pairs=8, top_n=None),
        tmp_path / "out",
    )
    whole = job.run(NanScorer())
    check(whole, output)
    dead = [(query_id, found[0][0]) for query_id, _, found in groups if found]
    assert [(example.query_id, example.doc_id) for example in whole.dead_letter_examples] == dead[:5]
    assert {example.reason_code for example in whole.dead_letter_examples} == {"non_finite_score"}
    next(iter(sorted((output / "scores").glob("part-*")))).unlink()
    again = job.run(NanScorer())
    assert 0 < again.units_skipped < again.units
    assert (again.histograms, again.truncation, again.dead_letter_examples) == (
        whole.histograms,
        whole.truncation,
        whole.dead_letter_examples,
    )
    assert sum(again.throughput.pairs) == again.computed_pairs < sum(whole.throughput.pairs)
    assert [unit.unit_id for unit in again.slowest_units] == [again.parts[0].unit_id]


def test_texts_are_counted_by_what_was_too_long(tmp_path: Path) -> None:
    """The limits are 400 bytes an item and 2,000 a pair, which two items cannot exceed."""
    groups = [("q0", "q" * 401, [("a", "a" * 400), ("b", "b" * 401)]), ("q1", "q", [("c", "c" * 500), ("d", "d")])]
    write(nested_table(groups), tmp_path / "in.parquet")
    report = SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run()
    assert report.truncation == {"query": 2, "document": 2, "pair": 0}
    assert report.totals.truncated == 3
