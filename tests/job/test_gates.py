"""What a finished output is compared with, and the limits that it must keep before it is served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from engine import NAN, NanScorer, SmallJob, run_in_a_process
from oracle import HashScorer
from tables import Group, nested_table, random_groups, write
from typer.testing import CliRunner

from reranker_batch.cli import app
from reranker_batch.errors import CommitError, ConfigError, InputError
from reranker_batch.job.summary import summary_rows
from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.crash_points import EXIT_CODE
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output

TOP_N = 12
GROUPS = [*random_groups(9, max_candidates=5, seed=3), *random_groups(3, max_candidates=14, seed=4)[1:]]
GROUPS = [(f"q{at}", query, candidates) for at, (_, query, candidates) in enumerate(GROUPS)]


def changed(groups: Sequence[Group]) -> list[Group]:
    """The next night: other texts in every third query, a query gone, a query new, and a document gone and new."""
    night = [
        (query_id, query, [(doc_id, f"{text} again") for doc_id, text in candidates] if at % 3 == 0 else candidates)
        for at, (query_id, query, candidates) in enumerate(groups)
    ]
    at = max(range(len(night)), key=lambda number: len(night[number][2]))
    query_id, query, candidates = night[at]
    night[at] = (query_id, query, [*candidates[2:], ("new", "a new document")])
    return [*night[:7], *night[8:], ("another", "a new query", [("a", "text"), ("b", "other text")])]


class NoScorer(HashScorer):
    """Must not be asked."""

    def score(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("something was scored again")


def job(folder: Path, groups: Sequence[Group] = GROUPS, **more: Any) -> SmallJob:
    """A job on its own copy of the input, with its output in `folder/out`."""
    write(nested_table(groups), folder / "in" / "a.parquet", row_group_size=3)
    return SmallJob(str(folder / "in"), str(folder / "out"), top_n=TOP_N, **more)


@pytest.fixture
def first(tmp_path: Path) -> str:
    """The output of the first night."""
    night = job(tmp_path / "first")
    assert night.run().exit_code == 0
    return night.output


def second(tmp_path: Path, first: str, *, name: str = "second", **gates: Any) -> SmallJob:
    return job(tmp_path / name, changed(GROUPS), report={"compare_with": first}, gates=gates)


def is_marked(night: SmallJob) -> bool:
    return Path(night.output, "scores", "_SUCCESS").exists()


def record(night: SmallJob, name: str) -> Any:
    return json.loads(Path(night.output, "run", f"{name}.json").read_text(encoding="utf-8"))


def contents(night: SmallJob) -> dict[str, tuple[int, bytes]]:
    """All files but the page, which tells of the last attempt."""
    files = [path for path in Path(night.output).rglob("*") if path.is_file() and path.suffix != ".html"]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def lists(output: str) -> dict[str, list[str]]:
    """Ids of the documents of every query, best first, by polars."""
    table = pl.read_parquet(f"{output}/scores/*.parquet")
    if "results" in table.columns:
        results = table.select("query_id", "results").to_dicts()
        return {row["query_id"]: [item["doc_id"] for item in row["results"]] for row in results if row["results"]}
    return dict(table.group_by("query_id", maintain_order=True).agg("doc_id").iter_rows())


def slow_movement(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> dict[str, Any]:
    """By the definitions: at depth 10, over queries of both sides."""
    both = sorted(before.keys() & after.keys())
    overlaps = [
        len({*before[query][:10]} & {*after[query][:10]}) / min(10, max(len(before[query]), len(after[query])))
        for query in both
    ]
    return {
        "queries": len(both),
        "changed_queries": sum(before[query][:10] != after[query][:10] for query in both),
        "queries_only_before": len(before.keys() - after.keys()),
        "queries_only_after": len(after.keys() - before.keys()),
        "overlap": sum(overlaps) / len(overlaps),
    }


@pytest.mark.parametrize("layout", ["pairs", "nested"])
def test_the_report_tells_what_moved(tmp_path: Path, first: str, layout: str) -> None:
    night = replace(second(tmp_path, first), output_layout=layout)
    night.run()
    came = {query_id: [doc_id for doc_id, _ in candidates] for query_id, _, candidates in changed(GROUPS) if candidates}
    report = record(night, "report")
    for name, before in (("movement", lists(first)), ("movement_first_stage", came)):
        right, told = slow_movement(before, lists(night.output)), report[name]
        assert told["overlap_at_10"]["mean"] == pytest.approx(right.pop("overlap"), abs=1e-9)
        assert {key: told[key] for key in right} == right
        assert told["changed_share"] == right["changed_queries"] / right["queries"]
    assert report["movement"]["compared_with"] == first
    assert 1 < report["movement"]["changed_queries"] < report["movement"]["queries"]
    assert report["movement"]["overlap_at_10"]["mean"] < 1
    assert (report["metrics"], report["exit_code"]) == (None, 0)
    moved, queries = report["movement"]["changed_queries"], report["movement"]["queries"]
    assert f"{moved} of {queries} queries changed" in dict(summary_rows(night.run()))["moved since earlier"]
    assert verify_output(night.output).problems == []


def limits_of(tmp_path: Path, first: str) -> dict[str, tuple[Any, Any]]:
    """Of each gate the limit that is just met, and one that is just not."""
    night = second(tmp_path, first, name="measured")
    report = night.run().to_dict()
    share = 100 * report["movement"]["changed_share"]
    cut, scored = report["totals"]["truncated"], report["totals"]["scored"]
    overlap = report["movement"]["overlap_at_10"]["mean"]
    assert (scored, cut) == (report["totals"]["candidates"], 0)
    return {
        "max_queries_changed": (f"{share + 1e-6:.6f}%", f"{share - 1e-6:.6f}%"),
        "min_overlap_at_10": (overlap, overlap + 1e-6),
    }


@pytest.mark.parametrize("key", ["max_queries_changed", "min_overlap_at_10"])
def test_a_night_that_is_beyond_a_limit_is_complete_and_not_served(tmp_path: Path, first: str, key: str) -> None:
    met, broken = limits_of(tmp_path, first)[key]
    good = second(tmp_path, first, **{key: met})
    assert (good.run().exit_code, is_marked(good), output_status(good.output).state) == (0, True, "complete")

    night = second(tmp_path, first, name="bad", **{key: broken})
    report = night.run()
    assert (report.status, report.exit_code, is_marked(night)) == ("gated", 4, False)
    gate = record(night, "gated")
    assert gate == {
        "exit_code": 4,
        "reasons": [report.message],
        "accepted": None,
        "numbers": {f"gates.{key}": report.gates[1].value},
    }
    assert f"gates.{key}={broken}" in report.message
    assert first in report.message
    assert verify_output(night.output).problems == []
    assert verify_output(night.output).exit_code == 4


def test_the_same_command_repeats_the_verdict_until_somebody_accepts(tmp_path: Path, first: str) -> None:
    night = second(tmp_path, first, max_queries_changed="0%")
    verdict = night.run()
    before = contents(night)
    again = night.run(NoScorer())
    assert (again.exit_code, again.message, again.computed_pairs) == (4, verdict.message, 0)
    assert contents(night) == before

    shown = CliRunner().invoke(app, ["status", night.output, "--json"])
    status = json.loads(shown.stdout)
    assert (shown.exit_code, status["status"], status["exit_code"], status["is_served"]) == (4, "gated", 4, False)
    assert (status["reasons"], status["accepted"]) == ([verdict.message], None)
    assert status["numbers"] == {"gates.max_queries_changed": verdict.gates[1].value}

    assert CliRunner().invoke(app, ["accept", night.output, "--by", "Ada"]).exit_code == 0
    accepted = record(night, "gated")["accepted"]
    assert (accepted["by"], is_marked(night)) == ("Ada", True)
    before = contents(night)
    served = night.run(NoScorer())
    assert (served.exit_code, served.status) == (0, "complete")
    assert f"accepted by Ada at {accepted['at']} in spite of: {verdict.message}" == served.message
    assert contents(night) == before
    assert output_status(night.output).state == "accepted"
    assert verify_output(night.output).exit_code == 0


def test_other_limits_decide_anew_without_scoring(tmp_path: Path, first: str) -> None:
    night = second(tmp_path, first)
    assert night.run().exit_code == 0
    parts = {name: content for name, content in contents(night).items() if "/part-" in name}
    strict = replace(night, gates={"min_overlap_at_10": 1})
    assert (strict.run(NoScorer()).exit_code, is_marked(night)) == (4, False)
    accept_output(night.output)
    other = replace(night, gates={"min_overlap_at_10": 1, "max_queries_changed": "0%"})
    assert (other.run(NoScorer()).exit_code, is_marked(night)) == (4, False), "that was not accepted"
    assert len(record(night, "gated")["reasons"]) == 2
    assert (night.run(NoScorer()).exit_code, is_marked(night)) == (0, True)
    assert not Path(night.output, "run", "gated.json").exists()
    assert {name: content for name, content in contents(night).items() if "/part-" in name} == parts


def test_dead_letters_and_gates_are_reasons_together_and_the_exit_code_is_3(tmp_path: Path, first: str) -> None:
    groups = [*changed(GROUPS), ("nan", "query", [("a", NAN), ("b", "text")])]
    night = job(tmp_path / "second", groups, report={"compare_with": first}, gates={"max_queries_changed": "0%"})
    night = replace(night, max_failed=0)
    report = night.run(NanScorer())
    assert (report.status, report.exit_code, is_marked(night)) == ("too_many_failed", 3, False)
    gate = record(night, "gated")
    assert (gate["exit_code"], gate["reasons"]) == (3, [result.message for result in report.gates])
    assert gate["numbers"].keys() == {"output.max_failed", "gates.max_queries_changed"}
    assert "1 dead letters are more than output.max_failed=0; " in report.message
    assert output_status(night.output).state == "too_many_failed"
    accept_output(night.output)
    assert verify_output(night.output).exit_code == 0


def test_cut_texts_have_a_limit_too(tmp_path: Path) -> None:
    groups = [("q", "query", [("long", "x" * 500), ("b", "b"), ("c", "c"), ("d", "d")])]
    night = job(tmp_path, groups, gates={"max_truncated": "24.9%"})
    report = night.run()
    assert report.exit_code == 4
    assert report.message == "1 of 4 scored pairs lost text to a limit, more than gates.max_truncated=24.9%"
    assert replace(night, gates={"max_truncated": "25%"}).run(NoScorer()).exit_code == 0


def test_the_first_of_many_nights_passes_and_the_others_keep_what_they_were_compared_with(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "report": {"compare_with": f"latest:{tmp_path / 'nights'}"},
        "gates": {"max_queries_changed": "0%", "min_overlap_at_10": 1.0},
    }
    one, two, three = (
        replace(job(tmp_path / name, groups, **more), output=str(tmp_path / "nights" / name))
        for name, groups in (("1", GROUPS), ("2", GROUPS), ("3", changed(GROUPS)))
    )
    assert one.run().exit_code == 0
    first = one.run()
    assert {result.message for result in first.gates[1:]} == {"not compared: there is no earlier output"}
    assert dict(summary_rows(first))["gates"].count("met: ") == 2
    assert "moved since earlier" not in dict(summary_rows(first))
    assert two.run().exit_code == 0
    assert record(two, "report")["movement"]["compared_with"] == one.output
    assert record(two, "report")["movement"]["changed_queries"] == 0
    assert three.run().exit_code == 4
    assert record(three, "report")["movement"]["compared_with"] == two.output
    accept_output(three.output)
    for night in (one, two, three):
        before = contents(night)
        assert night.run(NoScorer()).exit_code == 0
        assert contents(night) == before


def test_an_earlier_output_that_is_gone_by_now_still_counts(tmp_path: Path, first: str) -> None:
    night = second(tmp_path, first, max_queries_changed="0%")
    assert night.run().exit_code == 4
    Path(first).rename(tmp_path / "elsewhere")
    before = contents(night)
    assert night.run(NoScorer()).exit_code == 4
    assert contents(night) == before
    assert replace(night, gates={"max_queries_changed": "100%"}).run(NoScorer()).exit_code == 0
    report = record(night, "report")
    report["movement"]["changed_queries"] = 0
    Path(night.output, "run", "report.json").write_text(json.dumps(report))
    assert "computed from the parts" in verify_output(night.output).problems[-1]
    with pytest.raises(ConfigError, match=r"The earlier output .* holds no run"):
        night.run(NoScorer())


def test_what_cannot_be_compared_with_is_refused_before_anything_starts(tmp_path: Path, first: str) -> None:
    unfinished = job(tmp_path / "unfinished")
    assert run_in_a_process(unfinished, "part_published:1") == EXIT_CODE
    file = write(nested_table(GROUPS), tmp_path / "file.parquet")
    for place, message in (
        (str(tmp_path / "absent"), "holds no run"),
        (unfinished.output, "is not finished: interrupted"),
        (str(tmp_path / "second" / "out"), "is the output itself"),
        (str(tmp_path / "second" / "out" / "scores"), "is the output itself"),
        (str(file), "is not a folder|holds no run"),
        (f"latest:{first}", "is an output itself"),
    ):
        night = second(tmp_path, place)
        with pytest.raises(ConfigError, match=message):
            night.run(NoScorer())
        assert not Path(night.output, "run", "manifest.json").exists()


def test_without_another_the_output_whose_scores_are_reused_is_the_earlier_one(tmp_path: Path, first: str) -> None:
    night = replace(second(tmp_path, first), report={}, reuse={"from": first})
    report = night.run()
    assert report.movement is not None
    assert (report.movement["compared_with"], report.exit_code) == (first, 0)
    strict = replace(night, gates={"max_queries_changed": "0%"})
    assert strict.run(NoScorer()).exit_code == 4
    shutil.rmtree(first)
    assert strict.run(NoScorer()).exit_code == 4
    assert night.run(NoScorer()).movement == report.movement


def test_a_source_of_scores_that_cannot_be_compared_with_is_refused_if_a_gate_needs_it(tmp_path: Path) -> None:
    unfinished = job(tmp_path / "unfinished")
    assert run_in_a_process(unfinished, "part_published:1") == EXIT_CODE
    night = job(tmp_path / "second", changed(GROUPS), reuse={"from": unfinished.output})
    with pytest.raises(ConfigError, match="is not finished: interrupted"):
        replace(night, gates={"min_overlap_at_10": 0.5}).run(NoScorer())
    report = night.run()
    assert (report.exit_code, report.movement) == (0, None)
    assert report.movement_first_stage is not None


def test_an_earlier_output_whose_records_are_damaged_is_refused(tmp_path: Path, first: str) -> None:
    Path(first, "run", "report.json").write_text("{broken")
    with pytest.raises(
        ConfigError, match=r"The earlier output .* cannot be compared with: .*report.json cannot be read"
    ):
        second(tmp_path, first).run(NoScorer())


def test_an_earlier_output_whose_parts_are_damaged_ends_the_run_and_is_named(tmp_path: Path, first: str) -> None:
    night = second(tmp_path, first)
    part = sorted(Path(first, "scores").glob("part-*"))[0]
    whole = part.read_bytes()
    part.write_bytes(b"x")
    with pytest.raises(CommitError, match=part.name):
        night.run()
    assert (record(night, "report")["status"], is_marked(night)) == ("failed", False)
    part.write_bytes(whole)
    assert (night.run(NoScorer()).exit_code, is_marked(night)) == (0, True)


def test_a_night_that_has_no_query_of_the_earlier_output_is_gated(tmp_path: Path, first: str) -> None:
    gates = {"max_queries_changed": "100%", "min_overlap_at_10": 0}
    groups: list[list[Group]] = [[("other", "query", [("a", "text")])], [("q1", "query", [])]]
    for name, night_groups in zip("ab", groups, strict=True):
        night = job(tmp_path / name, night_groups, report={"compare_with": first}, gates=gates)
        report = night.run()
        assert report.exit_code == 4
        assert [result.value for result in report.gates[1:]] == [None, None]
        assert report.message.count(f"queries of {first} is in this output") == 2
    empty = str(tmp_path / "b" / "out")
    accept_output(empty)
    after = job(tmp_path / "c", report={"compare_with": empty}, gates=gates).run()
    assert (after.exit_code, after.gates[1].message) == (0, f"not compared: {empty} has no ranked query")


@pytest.mark.parametrize("point", ["rankings_compared", "report_written", "gate_written", "lock_released"])
def test_a_night_beyond_a_limit_that_ended_at_any_place_is_gated_and_never_served(
    tmp_path: Path, first: str, point: str
) -> None:
    night = second(tmp_path, first, max_queries_changed="0%")
    assert run_in_a_process(night, f"{point}:1") == EXIT_CODE, "the place was not reached"
    assert not is_marked(night)
    assert (night.run(NoScorer()).exit_code, is_marked(night)) == (4, False)
    accept_output(night.output, by="somebody")
    assert (night.run(NoScorer()).exit_code, is_marked(night)) == (0, True)


def qrels_of(path: Path, judged: Mapping[str, Mapping[str, int]]) -> str:
    rows = [f"{query} 0 {document} {grade}\n" for query, grades in judged.items() for document, grade in grades.items()]
    path.write_text("".join(rows))
    return str(path)


def test_metrics_are_in_the_report_and_have_a_limit(tmp_path: Path, first: str) -> None:
    night = second(tmp_path, first)
    night.run()
    ranked = lists(night.output)
    judged = {query: {documents[-1]: 1} for query, documents in sorted(ranked.items())[:5]}
    gains = {query: 1 / len(documents) for query, documents in ranked.items() if query in judged}
    qrels = qrels_of(tmp_path / "qrels", judged)
    report = replace(night, top_n=TOP_N, report={"compare_with": first, "qrels": qrels}).run(NoScorer())
    assert report.metrics is not None
    assert report.metrics["queries"] == 5
    assert report.metrics["means"]["rr_at_10"] == pytest.approx(
        sum(gain if gain >= 0.1 else 0 for gain in gains.values()) / 5
    )
    assert report.metrics["since_earlier"].keys() == report.metrics["since_first_stage"].keys()
    ndcg = report.metrics["means"]["ndcg_at_10"]
    for limit, exit_code in ((ndcg, 0), (ndcg + 1e-6, 4)):
        config = replace(night, report={"qrels": qrels}, gates={"min_ndcg_at_10": limit})
        ended = config.run(NoScorer())
        assert (ended.exit_code, ended.movement) == (exit_code, None)
        assert is_marked(night) == (exit_code == 0)
    assert "nDCG@10 of 5 judged queries is" in ended.message
    assert "first stage: " in dict(summary_rows(ended))["metrics"]
    assert dict(summary_rows(ended))["gates"].startswith(f"NOT met: gates.min_ndcg_at_10={limit} (seen: 0.")
    Path(qrels).write_text("elsewhere 0 a 1\n")
    ended = config.run(NoScorer())
    assert (ended.exit_code, ended.gates[1].value) == (4, None)
    assert f"no query that {qrels} judges is in this output" in ended.message
    Path(qrels).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        config.run(NoScorer())
