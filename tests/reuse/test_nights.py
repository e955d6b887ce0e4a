"""A night that reuses the scores of an earlier one gives what a full night gives, and scores only what changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from engine import NAN, HashBackend, NanScorer, SmallJob, kept_rows, right_rows, run_in_a_process
from oracle import HashScorer
from tables import Group, nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig, RunReport, verify_output
from reranker_batch.core.backend import Where
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairScores
from reranker_batch.core.units import auto_unit_pairs_with_reuse
from reranker_batch.errors import CommitError, ConfigError, FingerprintError
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.storage.output.crash_points import EXIT_CODE

GROUPS = random_groups(30, max_candidates=6, seed=11)
LAST, TONIGHT, FULL = "last", "tonight", "full"


class CountingScorer(HashScorer):
    """Counts the pairs it scores; `moved` is added to every logit."""

    def __init__(self, moved: float = 0.0) -> None:
        self.scored = 0
        self.moved = np.float32(moved)

    def score(self, inputs: ModelInputs, **options: object) -> PairScores:
        assert len(inputs)
        self.scored += len(inputs)
        scores = super().score(inputs, **options)  # type: ignore[arg-type]
        return replace(scores, logits=scores.logits + self.moved)


@dataclass(frozen=True, kw_only=True)
class UnloadableBackend(HashBackend):
    """Has no model to load."""

    def load_scorer(self, where: Where) -> HashScorer:
        raise AssertionError("no model is needed")


def changed(groups: list[Group], *, every: int = 5) -> list[Group]:
    """Another text in some queries' first candidate, under the old id; a new query; a query that is gone."""
    after = [
        (
            query_id,
            query,
            [
                (doc_id, f"{text} new" if not at and not number % every else text)
                for at, (doc_id, text) in enumerate(candidates)
            ],
        )
        for number, (query_id, query, candidates) in enumerate(groups)
    ]
    return [*after[1:], ("another", "a new query", [("d", "a text"), ("e", "")])]


def write_night(folder: Path, name: str, groups: list[Group], layout: str = "nested") -> None:
    table = nested_table(groups) if layout == "nested" else pairs_table(groups)
    write(table, folder / f"{name}.in" / "a.parquet", row_group_size=7)


def night(folder: Path, name: str, *, source: str | None = None, of: str | None = None, **more: Any) -> SmallJob:
    """A job that reads `NAME.in` (or that of `of`), writes `NAME` and reuses `source`."""
    reuse = {} if source is None else {"from": str(folder / source)}
    reuse |= more.pop("reuse", {})
    return SmallJob(str(folder / f"{of or name}.in"), str(folder / name), reuse=reuse, **more)


def two_nights(folder: Path, *, tonight: list[Group] | None = None) -> list[Group]:
    """The input of two nights; the first is run."""
    groups = changed(GROUPS) if tonight is None else tonight
    write_night(folder, LAST, GROUPS)
    write_night(folder, TONIGHT, groups)
    night(folder, LAST).run()
    return groups


def parts(output: Path) -> dict[str, pa.Table]:
    """Rows and schema of each part; footers also hold counts of how it came about."""
    return {path.name: pa.parquet.read_table(path).replace_schema_metadata() for path in (output / "scores").glob("p*")}


def texts(groups: list[Group]) -> set[tuple[str, str]]:
    return {(query, text) for _, query, candidates in groups for _, text in candidates}


def record_of(folder: Path, name: str = TONIGHT) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / name / "run" / "reuse.json").read_text())
    return record


@pytest.mark.parametrize("layout", ["nested", "pairs"])
@pytest.mark.parametrize("output_layout", ["nested", "pairs"])
def test_a_night_with_reuse_gives_the_rows_of_a_full_night(tmp_path: Path, layout: str, output_layout: str) -> None:
    write_night(tmp_path, LAST, GROUPS, layout)
    groups = changed(GROUPS)
    write_night(tmp_path, TONIGHT, groups, layout)
    layouts = {"layout": layout, "output_layout": output_layout}
    night(tmp_path, LAST, layout=layout).run()
    scorer = CountingScorer()
    report = night(tmp_path, TONIGHT, source=LAST, reuse={"verify_sample": 0}, **layouts).run(scorer)
    night(tmp_path, FULL, of=TONIGHT, **layouts).run()
    assert parts(tmp_path / TONIGHT) == parts(tmp_path / FULL)
    assert 0 < scorer.scored <= 2 * report.rescored  # some are scored again for the report's precision
    assert report.totals.reused > 0.8 * report.totals.scored
    assert report.totals.reused == sum(
        (query, text) in texts(GROUPS) for _, query, candidates in groups for _, text in candidates
    )
    assert report.computed_pairs == report.rescored
    assert verify_output(str(tmp_path / TONIGHT)).problems == []


def test_only_scores_of_this_run_are_compared_with_float32(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Most units have nothing to score."""
    two_nights(tmp_path, tonight=[*GROUPS, ("another", "a new query", [("d", "a text")])])
    report = night(tmp_path, TONIGHT, source=LAST).run(CountingScorer())
    assert report.rescored == 1
    assert report.precision is None or report.precision.pairs <= 1
    assert "scored again" not in caplog.text


def test_a_shuffled_table_is_reused_as_well(tmp_path: Path) -> None:
    groups = changed(GROUPS)
    shuffled = [groups[at] for at in np.random.default_rng(0).permutation(len(groups))]
    two_nights(tmp_path, tonight=shuffled)
    report = night(tmp_path, TONIGHT, source=LAST, unit_pairs=5).run()
    assert kept_rows(tmp_path / TONIGHT) == right_rows(shuffled)
    assert report.totals.reused > 0.8 * report.totals.scored


RECIPE = {"recipe": {"version": 1, "instruct": "Find it."}, "model": {"files": {"model.safetensors": "aa"}}}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"scoring": RECIPE | {"model": {"files": {"model.safetensors": "ab"}}}},
         'scoring.model.files.model.safetensors: "aa" -> "ab"'),
        ({"scoring": RECIPE | {"recipe": {"version": 2, "instruct": "Find it."}}}, "scoring.recipe.version: 1 -> 2"),
        ({"scoring": RECIPE | {"recipe": {"version": 1, "instruct": "Look."}}},
         'scoring.recipe.instruct: "Find it." -> "Look."'),
        ({"scoring": RECIPE | {"model": {"files": {"model.safetensors": "aa"}, "dtype": "bfloat16"}}},
         'scoring.model.dtype: "float32" -> "bfloat16"'),
        ({"limits": RequestLimits(max_documents=5, max_item_tokens=399, max_request_tokens=1000, max_pair_tokens=2000)},
         "scoring.limits.max_item_tokens: 400 -> 399"),
        ({"limits": RequestLimits(max_documents=5, max_item_tokens=400, max_request_tokens=1000, max_pair_tokens=1999)},
         "scoring.limits.max_pair_tokens: 2000 -> 1999"),
    ],
)  # fmt: skip
def test_other_settings_of_scoring_reuse_nothing_and_are_named(tmp_path: Path, more: Any, line: str) -> None:
    write_night(tmp_path, LAST, GROUPS)
    night(tmp_path, LAST, scoring=RECIPE).run()
    job = night(tmp_path, TONIGHT, source=LAST, of=LAST, **({"scoring": RECIPE} | more))
    required = replace(job, reuse={**job.reuse, "required": True})
    with pytest.raises(ConfigError, match="can be reused") as refused:
        required.run()
    assert line in str(refused.value)
    assert not (tmp_path / TONIGHT / "run" / "manifest.json").exists()
    report = job.run()
    assert (report.totals.reused, report.status) == (0, "complete")
    assert report.reuse is not None
    assert report.reuse.refused == [line]


@pytest.mark.parametrize(
    "more",
    [
        {"top_n": 1},
        {"output_layout": "nested"},
        {"limits": RequestLimits(max_documents=2, max_item_tokens=400, max_request_tokens=500, max_pair_tokens=2000)},
        {"unit_pairs": 50},
    ],
)
def test_what_changes_no_logit_costs_no_reuse(tmp_path: Path, more: dict[str, Any]) -> None:
    write_night(tmp_path, LAST, GROUPS)
    night(tmp_path, LAST).run()
    report = night(tmp_path, TONIGHT, source=LAST, of=LAST, **more).run()
    night(tmp_path, FULL, of=LAST, **more).run()
    assert report.reused_share == 1.0
    assert parts(tmp_path / TONIGHT) == parts(tmp_path / FULL)


def test_nothing_changed_loads_no_model(tmp_path: Path) -> None:
    two_nights(tmp_path, tonight=GROUPS)
    job = night(tmp_path, TONIGHT, source=LAST).job(HashScorer())
    report = run_job(replace(job, backend=UnloadableBackend()), inline_engine)
    assert (report.reused_share, report.replicas, report.executions) == (1.0, 0, {})
    assert report.reuse is not None
    assert report.reuse.check is None
    assert kept_rows(tmp_path / TONIGHT) == right_rows(GROUPS)


def test_five_nights_in_a_chain_with_only_the_last_kept(tmp_path: Path) -> None:
    groups = GROUPS
    write_night(tmp_path, "0", groups)
    night(tmp_path, "0").run()
    for number in range(1, 5):
        groups = changed(groups, every=number + 4)
        write_night(tmp_path, str(number), groups)
        report = night(tmp_path, str(number), source=str(number - 1)).run()
        shutil.rmtree(tmp_path / str(number - 1))
        assert kept_rows(tmp_path / str(number)) == right_rows(groups)
        assert report.totals.reused > 0.8 * report.totals.scored
    memo = pl.read_parquet(tmp_path / "4" / "memo" / "*.parquet")
    assert sorted(memo["nights"].unique()) == [0, 1, 2, 3, 4]
    assert len(memo.unique(["q0", "d0"])) == len(texts(groups))


def test_scores_are_reused_so_many_nights_and_no_more(tmp_path: Path) -> None:
    write_night(tmp_path, "0", GROUPS)
    night(tmp_path, "0").run()
    shares = [
        night(tmp_path, str(at), source=str(at - 1), of="0", reuse={"max_age_nights": 2}).run().reused_share
        for at in range(1, 5)
    ]
    assert shares == [1.0, 1.0, 0.0, 1.0]


def test_dead_letters_are_never_reused(tmp_path: Path) -> None:
    groups = [("q", "query", [("a", "text"), ("b", f"text {NAN}")]), ("p", "other", [("a", "text")])]
    write_night(tmp_path, LAST, groups)
    assert night(tmp_path, LAST).run(NanScorer()).totals.num_dead_letters == 1
    report = night(tmp_path, TONIGHT, source=LAST, of=LAST).run()
    assert (report.totals.reused, report.rescored, report.totals.num_dead_letters) == (2, 1, 0)
    assert kept_rows(tmp_path / TONIGHT) == right_rows(groups)


def test_a_repeated_pair_is_found_wherever_it_stands(tmp_path: Path) -> None:
    groups = [(f"q{at}", "query", [("a", "text"), ("b", "text"), ("c", f"text {at % 2}")]) for at in range(9)]
    write_night(tmp_path, LAST, groups)
    night(tmp_path, LAST).run()
    assert len(pl.read_parquet(tmp_path / LAST / "memo" / "*.parquet").unique(["q0", "d0"])) == 3
    report = night(tmp_path, TONIGHT, source=LAST, of=LAST, unit_pairs=7).run()
    assert report.reused_share == 1.0
    assert kept_rows(tmp_path / TONIGHT) == right_rows(groups)


def test_a_memo_that_was_tampered_with_stops_the_run(tmp_path: Path) -> None:
    two_nights(tmp_path)
    for path in (tmp_path / LAST / "memo").iterdir():
        table = pa.parquet.read_table(path)
        pa.parquet.write_table(table.set_column(4, table.schema.field(4), pa.array(np.zeros(len(table), "f4"))), path)
    with pytest.raises(CommitError, match="not the file that its run recorded"):
        night(tmp_path, TONIGHT, source=LAST).run()
    assert not [*(tmp_path / TONIGHT / "scores").iterdir()]


def incomplete(source: Path) -> None:
    (source / "scores" / "_SUCCESS").unlink()


@pytest.mark.parametrize(("spoil", "why"), [(shutil.rmtree, "holds no finished run"), (incomplete, "is not complete")])
def test_an_output_that_is_not_there_or_not_complete_makes_a_full_night(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    groups = two_nights(tmp_path)
    spoil(tmp_path / LAST)
    job = night(tmp_path, TONIGHT, source=LAST)
    with pytest.raises(ConfigError, match=why):
        replace(job, reuse={**job.reuse, "required": True}).run()
    report = job.run()
    assert report.totals.reused == 0
    assert kept_rows(tmp_path / TONIGHT) == right_rows(groups)


def test_an_output_without_a_memo_makes_a_full_night(tmp_path: Path) -> None:
    two_nights(tmp_path)
    shutil.rmtree(tmp_path / LAST)
    night(tmp_path, LAST, memo=False).run()
    report = night(tmp_path, TONIGHT, source=LAST).run()
    assert report.reuse is not None
    assert "has no memo" in report.reuse.refused[0]


def test_the_latest_output_of_a_folder_is_chosen_once(tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    for at in range(3):
        write_night(nights, str(at), GROUPS)
    reuse = {"from": f"latest:{nights}"}
    first = night(nights, "0", reuse=reuse).run()
    assert first.reuse is not None
    assert first.reuse.refused == [f"latest:{nights} has no complete output yet."]
    job = night(nights, "1", reuse=reuse)
    assert run_in_a_process(job, "part_published:2") == EXIT_CODE
    assert night(nights, "2", reuse=reuse).run().reuse.source == str(nights / "0")  # type: ignore[union-attr]
    assert job.run().reuse.source == str(nights / "0")  # type: ignore[union-attr]
    assert job.run().message == "nothing to do: the output is complete"


@pytest.mark.parametrize("point", ["reuse_written:1", "memo_published:1", "memo_published:3", "report_written:1"])
def test_a_night_that_was_killed_goes_on_to_the_same_rows(tmp_path: Path, point: str) -> None:
    groups = two_nights(tmp_path)
    job = night(tmp_path, TONIGHT, source=LAST)
    assert run_in_a_process(job, point) == EXIT_CODE
    report = job.run()
    assert kept_rows(tmp_path / TONIGHT) == right_rows(groups)
    assert report.totals.reused > 0.8 * report.totals.scored
    assert verify_output(str(tmp_path / TONIGHT)).problems == []
    assert not (tmp_path / TONIGHT / "run" / "staging").exists()


def begun(tmp_path: Path, **more: Any) -> SmallJob:
    """A night that was killed after two parts."""
    two_nights(tmp_path)
    job = night(tmp_path, TONIGHT, **more)
    assert run_in_a_process(job, "part_published:2") == EXIT_CODE
    return job


def test_a_run_that_goes_on_needs_the_output_that_it_began_with(tmp_path: Path) -> None:
    job = begun(tmp_path, source=LAST)
    (tmp_path / LAST).rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="cannot be used any more"):
        job.run()
    (tmp_path / "moved").rename(tmp_path / LAST)
    assert job.run().status == "complete"


@pytest.mark.parametrize(("was", "now"), [(LAST, None), (None, LAST), (LAST, "other")])
def test_a_run_that_goes_on_refuses_another_source(tmp_path: Path, was: str | None, now: str | None) -> None:
    begun(tmp_path, source=was)
    with pytest.raises(FingerprintError, match=r"was begun with reuse\.from"):
        night(tmp_path, TONIGHT, source=now).run()
    assert night(tmp_path, TONIGHT, source=was).run().status == "complete"


def run_moved(folder: Path, moved: float, **reuse: Any) -> tuple[RunReport, CountingScorer]:
    scorer = CountingScorer(moved)
    return night(folder, TONIGHT, source=LAST, reuse=reuse).run(scorer), scorer


def test_the_check_of_reused_pairs_is_on_record(tmp_path: Path) -> None:
    two_nights(tmp_path)
    report, scorer = run_moved(tmp_path, 5e-5, verify_sample=20)
    assert report.reuse is not None
    check = report.reuse.check
    assert check is not None
    assert (check.pairs, check.is_within, check.tolerance) == (20, True, 1e-4)
    assert check.max_logit_difference == pytest.approx(5e-5, abs=1e-6)
    assert scorer.scored <= 20 + report.rescored * 2  # some are scored again for the report's precision
    assert record_of(tmp_path)["check"]["pairs"] == 20


@pytest.mark.parametrize("moved", [2e-4, float("nan")])
def test_a_model_that_gives_other_scores_makes_a_full_night(tmp_path: Path, moved: float) -> None:
    two_nights(tmp_path)
    report, _ = run_moved(tmp_path, moved)
    assert report.totals.reused == 0
    assert report.reuse is not None
    assert report.reuse.check is not None
    assert not report.reuse.check.is_within
    assert "differ too much" in report.reuse.refused[0]
    assert report.replicas == 1


def test_a_rejected_check_ends_a_run_that_requires_reuse_before_anything_is_published(tmp_path: Path) -> None:
    two_nights(tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="differ too much"):
            run_moved(tmp_path, 1.0, required=True)
    assert not [*(tmp_path / TONIGHT / "scores").iterdir()]
    assert run_moved(tmp_path, 1.0)[0].totals.reused == 0


def test_a_rejected_check_is_kept_by_a_run_that_goes_on(tmp_path: Path) -> None:
    """Else parts of one output would be of two models."""
    two_nights(tmp_path)
    job = night(tmp_path, TONIGHT, source=LAST)
    assert run_in_a_process(job, "part_published:2", CountingScorer(1.0)) == EXIT_CODE
    assert record_of(tmp_path)["check"]["is_within"] is False
    assert job.run().totals.reused == 0


def test_an_accepted_check_is_kept_by_a_run_that_goes_on(tmp_path: Path) -> None:
    two_nights(tmp_path)
    job = night(tmp_path, TONIGHT, source=LAST)
    assert run_in_a_process(job, "part_published:2") == EXIT_CODE
    report = job.run(CountingScorer(1.0))
    assert report.totals.reused > 0.8 * report.totals.scored


def test_a_wider_tolerance_and_no_check_may_be_asked_for(tmp_path: Path) -> None:
    two_nights(tmp_path)
    assert run_moved(tmp_path, 0.5, max_logit_difference=0.6)[0].totals.reused
    shutil.rmtree(tmp_path / TONIGHT)
    report, _ = run_moved(tmp_path, 0.5, verify_sample=0)
    assert report.totals.reused
    assert report.reuse is not None
    assert report.reuse.check is None


@pytest.mark.parametrize("source", ["out", "out/inside", "."])
def test_an_output_is_no_source_for_itself(tmp_path: Path, source: str) -> None:
    write_night(tmp_path, LAST, GROUPS)
    values = {
        "input": {"path": str(tmp_path / f"{LAST}.in")},
        "model": {"name": "builtin:mini"},
        "output": {"path": str(tmp_path / "out")},
        "reuse": {"from": str(tmp_path / source)},
    }
    with pytest.raises(ConfigError, match="Name another output"):
        open_job(JobConfig.of(values))


@pytest.mark.parametrize("source", ["", "latest:", "s3://key:secret@bucket/out", "latest:s3://key:secret@bucket/out"])
def test_a_source_is_a_place_without_secrets(source: str) -> None:
    values = {"input": {"path": "in"}, "model": {"name": "m"}, "output": {"path": "out"}, "reuse": {"from": source}}
    with pytest.raises(ConfigError, match=r"reuse\.from") as refused:
        JobConfig.of(values)
    assert "secret@" not in str(refused.value)


def test_the_config_of_a_run_can_be_printed_and_read_again(tmp_path: Path) -> None:
    config = night(tmp_path, TONIGHT, source=LAST).config
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert JobConfig.load(tmp_path / "config.yaml") == config
    again = JobConfig.load(tmp_path / "config.yaml", overrides=["reuse.from=latest:elsewhere"])
    assert again.reuse.source == "latest:elsewhere"


@pytest.mark.parametrize(
    ("pairs", "unpacked", "expected"),
    [
        (1_000, 1, 16_384),
        (400_000, 1 << 20, 50_000),
        (10_000_000, 1 << 20, 65_536),
        (10_000_000, 100 << 30, 25_000),  # 10 kB a pair
        (10_000_000, 1 << 50, 16_384),
    ],
)
def test_units_are_larger_where_most_pairs_are_reused(pairs: int, unpacked: int, expected: int) -> None:
    assert auto_unit_pairs_with_reuse(pairs, unpacked) == expected
