from pathlib import Path

from tables import nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.job.estimate import estimate_job, sample_units
from reranker_batch.job.job import open_job

GROUPS = random_groups(60, max_candidates=8)
NUM_PAIRS = sum(len(group[2]) for group in GROUPS)


def config(folder: Path, layout: str = "nested") -> JobConfig:
    return JobConfig.of(
        {
            "input": {"path": str(folder), "layout": layout},
            "model": {"name": "builtin:mini"},
            "output": {"path": f"{folder}-out"},
            "limits": {"max_documents": 3},
            "runtime": {"unit_pairs": 20},
        }
    )


def test_a_small_input_is_counted_whole(tmp_path: Path) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet", row_group_size=4)
    estimate = estimate_job(config(tmp_path))
    assert (estimate.files, estimate.rows) == (1, 60)
    requests = [-(-len(group[2]) // 3) for group in GROUPS]
    assert estimate.sample.requests <= sum(requests)
    shown = dict(estimate.rows_to_show())
    assert shown["limits"].startswith("profile gte-rerank-v2: 3 documents a request, 4,000 tokens an item")
    assert not (tmp_path / "out").exists()


def test_the_estimate_is_near_the_truth(tmp_path: Path) -> None:
    write(pairs_table(GROUPS), tmp_path / "a.parquet", row_group_size=7)
    whole = estimate_job(config(tmp_path, "pairs"))
    assert whole.pairs == NUM_PAIRS
    assert whole.scaled(whole.sample.candidates) == NUM_PAIRS


def test_samples_are_spread_over_the_input(tmp_path: Path) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet", row_group_size=1)
    units = open_job(config(tmp_path)).plan.units
    rows = [unit.spans[0].row_start for unit in sample_units(units)]
    assert rows[0] == 0
    assert rows == sorted(set(rows))
    assert rows[-1] > 45
