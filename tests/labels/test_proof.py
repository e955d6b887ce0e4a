"""`status` and `verify` of labels: what became of the candidates, and that the files are those that were published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import HashScorer
from tables import random_groups
from teachers import Bench, make_in_a_process

from reranker_batch import RerankerBatchError, status, verify
from reranker_batch.cli import run_command
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.crash_points import EXIT_CODE
from reranker_batch.storage.output.lock import hold_lock


def bench_at(folder: Path) -> Bench:
    bench = Bench(folder, settings={"unit_pairs": 12})
    bench.write_input(random_groups(9, max_candidates=6, seed=2))
    for name in ("one", "two"):
        bench.teach(name, HashScorer())
    return bench


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proof")
    bench_at(folder).label(["one", "two"], negatives={"num": 2})
    return folder / "labels"


@pytest.fixture
def labels(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "labels"))


def test_the_status_of_labels_tells_decisions_and_teachers(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["status", str(made)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{made}: complete. ")
    assert "Teachers: one, two." in said
    assert run_command(["status", str(made), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    report = json.loads((made / "run" / "labels_report.json").read_text())
    assert (told["status"], told["exit_code"], told["is_served"], told["teachers"]) == (
        "complete",
        0,
        True,
        ["one", "two"],
    )
    assert sum(told["decisions"].values()) == report["candidates"]
    assert told["decisions"]["negative"] == report["negatives"]
    assert f"{report['negatives']} negative" in said


def test_labels_that_were_killed_are_interrupted_and_not_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = bench_at(tmp_path)
    assert make_in_a_process(bench.config(["one", "two"]), "labels_published:2") == EXIT_CODE
    place = str(tmp_path / "labels")
    assert run_command(["status", place]) == 130
    assert "interrupted. 2 of " in capsys.readouterr().out
    assert run_command(["verify", place]) == 1
    assert "labels/_SUCCESS" in capsys.readouterr().err
    with hold_lock(Folder.at(place)):
        assert status(place).state == "running"


def test_sound_labels_are_proved(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify", str(made)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{made}: sound. ")
    assert said.err == ""


def first_part(labels: Path, folder: str) -> Path:
    path: Path = min((labels / folder).glob("part-*"))
    return path


def lose_a_row(labels: Path, folder: str) -> None:
    path = first_part(labels, folder)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def change_a_score(labels: Path) -> None:
    """With the record in the footer, and without any row that is lost."""
    path = first_part(labels, "dropped")
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["score"] = 0.5
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def swap_parts(labels: Path) -> None:
    first, second = sorted((labels / "dropped").glob("part-*"))[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def edit(labels: Path, name: str, old: str, new: str) -> None:
    path = labels / "run" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda labels: first_part(labels, "labels").unlink(), "is damaged"),
        (lambda labels: first_part(labels, "dropped").unlink(), "is damaged"),
        (lambda labels: lose_a_row(labels, "labels"), "is not the file that was published"),
        (change_a_score, "is not the file that was published"),
        (swap_parts, "it belongs to other labels, or to another unit"),
        (lambda labels: (labels / "labels" / "_SUCCESS").unlink(), "it is not complete"),
        (lambda labels: shutil.copy(first_part(labels, "dropped"), labels / "dropped" / "part-x.parquet"), "no unit"),
        (lambda labels: edit(labels, "labels.json", '"offset": ', '"offset": 1'), "fingerprint is not that"),
        (lambda labels: edit(labels, "labels_report.json", '"queries": 9', '"queries": 8'), "queries is not what"),
    ],
)
def test_labels_that_are_not_what_was_published_are_not_sound(
    labels: Path, damage: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(labels)
    assert run_command(["verify", str(labels)]) == 1
    assert message in capsys.readouterr().err


def test_sources_that_have_changed_are_told_and_sources_that_are_gone_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = bench_at(tmp_path)
    bench.label(["one", "two"])
    place = str(tmp_path / "labels")
    shutil.rmtree(tmp_path / "two")
    assert run_command(["verify", place]) == 0
    assert "teachers and input are not compared" in capsys.readouterr().err
    bench.teach("two", HashScorer(), unit_pairs=5)
    assert run_command(["verify", place]) == 1
    assert "than what is there now: teachers.two.units_digest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "parts_made"),
    [
        (lambda labels: first_part(labels, "labels").unlink(), 1),
        (lambda labels: first_part(labels, "dropped").unlink(), 1),
        (change_a_score, 1),
        (swap_parts, 2),
        (lambda labels: edit(labels, "labels_report.json", '"queries": 9', '"queries": 8'), 0),
        (lambda labels: (labels / "run" / "labels_report.json").write_text("{}"), 0),
        (lambda labels: (labels / "run" / "labels_report.json").unlink(), 0),
    ],
)
def test_the_label_command_repairs_what_is_not_sound(
    labels: Path, made: Path, damage: Callable[[Path], object], parts_made: int
) -> None:
    """Files of both kinds: dropped candidates that nobody can look up any more are lost."""
    damage(labels)
    shutil.copytree(made.parent / "in", labels.parent / "in")
    bench = Bench(labels.parent, settings={"unit_pairs": 12})
    teachers = [{"name": name, "output": str(made.parent / name)} for name in ("one", "two")]
    report = bench.label(teachers, negatives={"num": 2})
    assert report.parts_made == parts_made
    assert verify(str(labels)).problems == []


def test_records_of_labels_that_cannot_be_read_are_told(labels: Path) -> None:
    (labels / "run" / "labels_report.json").write_text("{}")
    with pytest.raises(RerankerBatchError, match="is not a record of this program"):
        verify(str(labels))
    (labels / "run" / "labels_report.json").unlink()
    with pytest.raises(RerankerBatchError, match="labels_report.json is not"):
        status(str(labels))
