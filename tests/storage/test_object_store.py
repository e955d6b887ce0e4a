"""A whole life of an output on an object store that runs in this process: moto's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine import NanScorer, SmallJob
from object_store import object_store
from outputs import REASON, groups
from pyarrow.fs import FileType
from tables import nested_table, write

from reranker_batch import export
from reranker_batch.errors import ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.cleaning import clean_outputs
from reranker_batch.storage.output.latest import latest_output
from reranker_batch.storage.output.redriving import redrive_output
from reranker_batch.storage.output.run_state import RunState
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store(monkeypatch, "nightly") as options:
        yield options


def test_an_output_is_gated_redriven_accepted_damaged_and_repaired_on_an_object_store(
    tmp_path: Path, options: str
) -> None:
    write(nested_table(groups()), tmp_path / "in" / "a.parquet", row_group_size=2)
    output = f"s3://nightly/a b/out{options}"
    assert output_status(output).state == "no_run"
    job = SmallJob(str(tmp_path / "in"), output, unit_pairs=8, max_failed=0)
    assert job.run(NanScorer()).exit_code == 3
    assert (output_status(output).state, verify_output(output).exit_code) == ("too_many_failed", 3)
    with pytest.raises(ConfigError, match="lies in the output"):
        redrive_output(output, f"s3://nightly/a b/out/again{options}")
    assert redrive_output(output, f"s3://nightly/a b/again{options}").num_candidates == 2
    assert latest_output(f"s3://nightly/a b{options}") is None
    accept_output(output, by="Ada")
    assert latest_output(f"s3://nightly/a b{options}") == output
    assert latest_output(f"s3://nightly/a b{options}", exclude=output) is None
    assert (output_status(output).state, verify_output(output).exit_code) == ("accepted", 0)
    runs = Folder.at(f"s3://nightly/a b/runs{options}")
    exported = export(output, f"s3://nightly/a b/runs/run.trec.gz{options}", format="trec")
    assert set(runs.names()) == {"run.trec.gz"}
    with runs.filesystem.open_input_stream(runs.child("run.trec.gz"), compression="gzip") as source:
        assert source.read().count(b"\n") == exported.documents > 0
    state = RunState(Folder.at(output))
    for folder, names in (("scores", state.part_names()), ("dead_letters", state.dead_letter_names())):
        state.output.filesystem.delete_file(state.output.child(folder, max(names)))
    assert not verify_output(output).is_sound
    assert f"accepted by Ada at {output_status(output).to_dict()['accepted']['at']}" in job.run(NanScorer()).message
    assert verify_output(output).problems == []
    assert output_status(output).to_dict()["reasons"] == [REASON]
    newer = f"s3://nightly/a b/newer{options}"
    SmallJob(str(tmp_path / "in"), newer, unit_pairs=8).run(NanScorer())
    state.output.filesystem.open_output_stream(state.output.child("notes.txt")).close()
    assert "no run wrote: notes.txt" in clean_outputs(f"s3://nightly/a b{options}", keep=1).refused[output]
    state.output.filesystem.delete_file(state.output.child("notes.txt"))
    assert clean_outputs(f"s3://nightly/a b{options}", keep=1).deleted == [output]
    assert state.output.filesystem.get_file_info(state.output.path).type == FileType.NotFound
    assert verify_output(newer).is_sound


def test_a_night_is_compared_with_the_latest_one_gated_and_accepted_on_an_object_store(
    tmp_path: Path, options: str
) -> None:
    write(nested_table(groups()), tmp_path / "in" / "a.parquet", row_group_size=2)
    qrels = Folder.at(f"s3://nightly/labels{options}")
    with qrels.filesystem.open_output_stream(qrels.child("qrels")) as sink:
        sink.write(b"q1 0 d1-1 1\n")
    report = {"compare_with": f"latest:s3://nightly/c d{options}", "qrels": f"s3://nightly/labels/qrels{options}"}
    first = SmallJob(str(tmp_path / "in"), f"s3://nightly/c d/1{options}", unit_pairs=8, report=report)
    assert (first.run().exit_code, first.run().movement) == (0, None)
    second = replace(first, output=f"s3://nightly/c d/2{options}", gates={"min_ndcg_at_10": 1, "max_truncated": "1%"})
    ended = second.run()
    assert ended.movement is not None
    assert ended.metrics is not None
    assert (ended.exit_code, ended.metrics["queries"]) == (4, 1)
    assert ended.gates[1].value == ended.metrics["means"]["ndcg_at_10"] < 1
    assert (ended.movement["compared_with"], ended.movement["changed_queries"]) == (first.output, 0)
    assert (output_status(second.output).state, verify_output(second.output).exit_code) == ("gated", 4)
    assert latest_output(f"s3://nightly/c d{options}") == first.output
    assert second.run().computed_pairs == 0
    accept_output(second.output, by="Ada")
    assert (output_status(second.output).state, second.run().exit_code) == ("accepted", 0)
    assert latest_output(f"s3://nightly/c d{options}") == second.output


def test_a_night_on_an_object_store_reuses_the_scores_of_the_last_one(tmp_path: Path, options: str) -> None:
    write(nested_table(groups()), tmp_path / "in" / "a.parquet", row_group_size=2)
    shuffled = groups()[::-1]
    shuffled[0] = ("q", "another query", shuffled[0][2])
    write(nested_table(shuffled), tmp_path / "next" / "a.parquet", row_group_size=2)
    nights = f"s3://nightly/nights{options}"
    SmallJob(str(tmp_path / "in"), f"s3://nightly/nights/a{options}", unit_pairs=8).run(NanScorer())
    reuse = {"from": f"latest:{nights}"}
    report = SmallJob(str(tmp_path / "next"), f"s3://nightly/nights/b{options}", unit_pairs=2, reuse=reuse).run()
    assert report.reuse is not None
    assert (report.reuse.source, report.reuse.refused) == (f"s3://nightly/nights/a{options}", [])
    assert report.rescored == len(shuffled[0][2]) + 2  # of two the first night had no score
    assert verify_output(f"s3://nightly/nights/b{options}").problems == []
