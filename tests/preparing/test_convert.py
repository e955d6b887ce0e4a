"""A table of any form is converted once, by tasks that may end anywhere, and scored as nested Parquet is."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from engine import NAN, NanScorer, SmallJob, kept_rows, right_rows, run_in_a_process
from object_store import object_store
from row_layouts import LAYOUTS
from tables import Group, nested_table, random_groups, write

from reranker_batch.core.mapping import in_threads
from reranker_batch.errors import CommitError, ConfigError, FingerprintError, InputError
from reranker_batch.job.processes import processes
from reranker_batch.preparing.conversion.convert import convert
from reranker_batch.preparing.conversion.record import RECORD, ConversionFolder
from reranker_batch.preparing.ready import look_at_input
from reranker_batch.preparing.table.source import Source
from reranker_batch.runtime import driver
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.crash_points import EXIT_CODE, POINTS
from reranker_batch.storage.output.redriving import redrive_output
from reranker_batch.storage.output.verifying import verify_output

GROUPS = [
    (query_id, f"{query} ?", candidates)
    for query_id, query, candidates in random_groups(20, max_candidates=5, seed=3)
    if candidates
]
"""A table of lines has no query without candidates."""
PAIR_COLUMNS = ["query_id", "query", "doc_id", "text"]


def nested_lines(groups: Sequence[Group]) -> str:
    return "".join(
        json.dumps(
            {"query_id": group[0], "query": group[1], "candidates": [{"doc_id": d, "text": t} for d, t in group[2]]}
        )
        + "\n"
        for group in groups
    )


def pair_rows(groups: Sequence[Group]) -> list[list[str]]:
    return [[group[0], group[1], *candidate] for group in groups for candidate in group[2]]


def jsonl(folder: Path, groups: Sequence[Group]) -> str:
    (folder / "a.jsonl").write_text(nested_lines(groups[:9]), encoding="utf-8")
    (folder / "b.jsonl").write_text(nested_lines(groups[9:]), encoding="utf-8")
    return "nested"


def zstd_jsonl(folder: Path, groups: Sequence[Group]) -> str:
    with pa.CompressedOutputStream(str(folder / "a.jsonl.zst"), "zstd") as sink:
        sink.write(nested_lines(groups).encode())
    return "nested"


def gzip_csv(folder: Path, groups: Sequence[Group]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([PAIR_COLUMNS, *pair_rows(groups)])
    (folder / "a.csv.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    return "pairs"


def tsv(folder: Path, groups: Sequence[Group]) -> str:
    lines = ["\t".join(row) for row in [PAIR_COLUMNS, *pair_rows(groups)]]
    (folder / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "pairs"


def two_tsv(folder: Path, groups: Sequence[Group]) -> str:
    """Two tasks: rows of pairs are converted file by file."""
    for name, some in (("a.tsv", groups[:9]), ("b.tsv", groups[9:])):
        lines = ["\t".join(row) for row in [PAIR_COLUMNS, *pair_rows(some)]]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "pairs"


FORMS = [jsonl, zstd_jsonl, gzip_csv, tsv]


def job_on(folder: Path, form: Callable[[Path, Sequence[Group]], str], groups: Sequence[Group] = GROUPS) -> SmallJob:
    (folder / "in").mkdir()
    return SmallJob(str(folder / "in"), str(folder / "out"), layout=form(folder / "in", groups))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_table_of_any_form_is_scored_as_nested_parquet_is(
    tmp_path: Path, form: Callable[[Path, Sequence[Group]], str]
) -> None:
    job = job_on(tmp_path, form)
    assert job.run().exit_code == 0
    assert kept_rows(tmp_path / "out") == right_rows(GROUPS)
    assert verify_output(job.output).problems == []
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    assert "nothing to do" in job.run().message
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")} == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_scored_verified_and_found_complete_again(tmp_path: Path, name: str) -> None:
    path = LAYOUTS[name].write(tmp_path / "in")
    job = SmallJob(str(path), str(tmp_path / "out"), top_n=None)
    assert job.run().exit_code == 0
    rows = pl.read_parquet(tmp_path / "out" / "scores" / "*.parquet").sort("query_id", "index")
    pairs = [(query_id, doc_id) for query_id, _, doc_id, _ in LAYOUTS[name].pairs]
    assert rows.select("query_id", "doc_id").rows() == sorted(pairs, key=lambda pair: pair[0])
    assert verify_output(job.output).problems == []
    assert "nothing to do" in job.run().message


def converted_files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "run" / "input").glob("*.parquet"))}


CRASHES = [point for point in POINTS if point.startswith("conversion_")]


@pytest.mark.parametrize("point", [*CRASHES, "conversion_part_published:2", "conversion_task_recorded:2"])
def test_a_conversion_that_ends_anywhere_gives_the_same_bytes(tmp_path: Path, point: str) -> None:
    job = job_on(tmp_path, two_tsv)
    whole = replace(job, output=str(tmp_path / "whole"))
    whole.run()
    assert run_in_a_process(job, point) == EXIT_CODE
    assert run_in_a_process(job, "part_published") == EXIT_CODE
    job.run()
    assert kept_rows(tmp_path / "out") == right_rows(GROUPS)
    assert converted_files(tmp_path / "out") == converted_files(tmp_path / "whole")
    left = sorted(path.name for path in (tmp_path / "out" / "run" / "input").iterdir())
    assert left == [RECORD, "part-000000-000000.parquet", "part-000001-000000.parquet"]


def source_of(path: Path, **of_job: Any) -> Source:
    look = look_at_input(SmallJob(str(path), "out", **of_job).config)
    assert look.source is not None
    return look.source


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))]).to_dicts()


@pytest.mark.parametrize("piece_bytes", [64, 300, 1 << 20])
def test_pieces_of_a_file_give_the_rows_and_the_made_up_ids_of_the_whole(tmp_path: Path, piece_bytes: int) -> None:
    lines = [json.dumps({"query": f"q{at}", "candidates": ["a" * at, "b"]}) + "\n" * (1 + at % 3) for at in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    numbers = [sum(1 + before % 3 for before in range(at)) for at in range(40)]
    convert(source_of(tmp_path / "a.jsonl"), str(tmp_path / "in"), in_threads, piece_bytes=piece_bytes)
    assert rows_of(tmp_path / "in") == [
        {
            "query_id": f"a.jsonl#{line}",
            "query": f"q{at}",
            "candidates": [
                {"doc_id": f"a.jsonl#{line}/0", "text": "a" * at},
                {"doc_id": f"a.jsonl#{line}/1", "text": "b"},
            ],
        }
        for at, line in enumerate(numbers)
    ]
    assert len([*(tmp_path / "in").glob("part-*")]) == (
        1 if piece_bytes > 1 << 10 else len({*_pieces(lines, piece_bytes)})
    )


def _pieces(lines: Sequence[str], piece_bytes: int) -> list[int]:
    size = sum(map(len, lines))
    return [*range(0, size, piece_bytes)]


def test_rows_of_a_query_stay_in_one_part_whatever_the_pieces(tmp_path: Path) -> None:
    tsv(tmp_path, GROUPS)
    source = source_of(tmp_path / "a.tsv", layout="pairs")
    convert(source, str(tmp_path / "in"), in_threads, piece_bytes=50)
    assert [list(row.values()) for row in rows_of(tmp_path / "in")] == pair_rows(GROUPS)
    assert len([*(tmp_path / "in").glob("part-*")]) == 1


def test_ids_that_are_made_of_places_and_messages_name_the_source_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, query in (("a", "one"), ("b", "two")):
        lines = [f'{{"query": "{query}", "text": "{at}"}}\n' for at in range(3)]
        (tmp_path / "in" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "in" / "c.jsonl").write_text(
        '{"query_id": 7, "query": "x", "text": "0"}\n{"query_id": 7, "query": "y", "text": null}\n', encoding="utf-8"
    )
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), layout="pairs")
    job.run()
    table = pl.read_parquet(tmp_path / "out" / "scores" / "*.parquet").sort("doc_id")
    ids = [(f"{name}.jsonl#0", f"{name}.jsonl#{at}/{at}") for name in "ab" for at in range(3)] + [("7", "c.jsonl#0/0")]
    assert table.select("query_id", "doc_id").rows() == ids
    letters = pl.read_parquet(tmp_path / "out" / "dead_letters" / "*.parquet")
    assert letters["doc_id"].to_list() == ["c.jsonl#1/1"]
    assert "_place" not in str(letters.schema)


@pytest.mark.parametrize("name", ["in.tsv", "in.jsonl"])
def test_rows_of_a_query_that_do_not_stand_together_are_refused_with_the_way_to_group_them(
    tmp_path: Path, name: str
) -> None:
    rows = [("q", "a"), ("r", "b"), ("q", "c")]
    as_tsv = ["query\ttext", *map("\t".join, rows)]
    lines = as_tsv if name == "in.tsv" else [f'{{"query": "{query}", "text": "{text}"}}' for query, text in rows]
    (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    shown = rf"'q' of row 0 in {name} comes back at row 2 in {name}. .* prepare.run in place of input.path"
    with pytest.raises(InputError, match=shown):
        SmallJob(str(tmp_path / name), str(tmp_path / "out"), layout="pairs").run()


def test_another_source_and_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    job = job_on(tmp_path, jsonl)
    job.run()
    with pytest.raises(FingerprintError, match=r"input.query_id: \[\"query_id\"\] -> null"):
        replace(job, columns={"query_id": None}).run()
    with (tmp_path / "in" / "b.jsonl").open("a", encoding="utf-8") as file:
        file.write(nested_lines([("new", "q", [("d", "t")])]))
    with pytest.raises(FingerprintError, match=r"files.b.jsonl.size_bytes: [0-9]+ -> [0-9]+"):
        job.run()


def test_a_row_that_cannot_be_used_is_named_and_the_mended_file_goes_on(tmp_path: Path) -> None:
    job = job_on(tmp_path, jsonl)
    good = (tmp_path / "in" / "b.jsonl").read_text(encoding="utf-8")
    (tmp_path / "in" / "b.jsonl").write_text(good + '{"query": "q"\n', encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InputError, match=r"b.jsonl, line [0-9]+ is not JSON"):
            job.run()
    assert not (tmp_path / "out" / "run" / "manifest.json").exists()
    (tmp_path / "in" / "b.jsonl").write_text(good, encoding="utf-8")
    job.run()
    assert kept_rows(tmp_path / "out") == right_rows(GROUPS)


def test_a_column_that_is_of_another_kind_in_a_later_file_is_named_with_its_place(tmp_path: Path) -> None:
    job = job_on(tmp_path, jsonl)
    (tmp_path / "in" / "z.jsonl").write_text('\n{"query": 3, "candidates": []}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"'query' in z.jsonl is int64, text .* This is so from z.jsonl, line 2 on"):
        job.run()


def test_what_cannot_be_scored_becomes_the_dead_letters_of_a_table_in_parquet(tmp_path: Path) -> None:
    rows = [
        b'{"query_id": "1", "query": "q", "candidates": [{"doc_id": "a", "text": null}, {"doc_id": "b", "text": "x"}]}',
        b'{"query_id": "2", "query": null, "candidates": [{"doc_id": "c", "text": "x"}]}',
        b'{"query_id": "3", "query": "q", "candidates": [{"doc_id": "d", "text": "x \xff"}, null]}',
        b'{"query_id": "4", "query": "q", "candidates": null}',
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(rows))
    report = SmallJob(str(tmp_path / "in.jsonl"), str(tmp_path / "out")).run()
    assert report.totals.dead_letters == {"null_document": 2, "null_query": 1, "invalid_utf8": 1}
    assert [row.doc_id for row in kept_rows(tmp_path / "out")] == ["b"]
    lists = tmp_path / "lists.jsonl"
    lists.write_text('{"query": "q", "d": ["x", "y"], "i": [1]}\n{"query": "q", "d": [], "i": [1]}\n', encoding="utf-8")
    unequal = SmallJob(str(lists), str(tmp_path / "lists"), columns={"candidates": "d", "doc_id": "i"})
    assert unequal.run().totals.dead_letters == {"unequal_lists": 3}


def test_dead_letters_of_converted_input_are_scored_again_by_the_same_config(tmp_path: Path) -> None:
    groups = [
        (group[0], group[1], [(d, f"{t} {NAN}" if d.endswith("1") else t) for d, t in group[2]]) for group in GROUPS
    ]
    rows = [
        {"qid": group[0], "query": group[1], "hits": [{"id": d, "head": "", "body": t, "n": 1} for d, t in group[2]]}
        for group in groups
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"query_id": "qid", "candidates": ["hits"], "doc_id": "id", "document": ["head", "body"]}
    job = SmallJob(str(tmp_path / "in.jsonl"), str(tmp_path / "out"), columns={**columns, "passthrough": ["n"]})
    report = job.run(NanScorer())
    assert report.totals.dead_letters == {"non_finite_score": sum(len(group[2]) > 1 for group in groups)}
    redrive_output(job.output, str(tmp_path / "again"))
    again = replace(job, input=str(tmp_path / "again"), output=str(tmp_path / "out2"))
    again.run()
    found = pl.read_parquet(tmp_path / "out2" / "scores" / "*.parquet")
    assert found.select("query_id", "doc_id", "list", "n").rows() == [
        (group[0], group[2][1][0], "hits", 1) for group in groups if len(group[2]) > 1
    ]


def test_files_of_the_conversion_that_are_gone_or_foreign_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(nested_lines(GROUPS), encoding="utf-8")
    source, goal = source_of(tmp_path / "a.jsonl"), tmp_path / "in"
    convert(source, str(goal), in_threads)
    (goal / "other.parquet").touch()
    with pytest.raises(CommitError, match=r"other.parquet is not of this conversion"):
        convert(source, str(goal), in_threads)
    (goal / "other.parquet").unlink()
    (goal / "part-000000-000000.parquet").unlink()
    with pytest.raises(CommitError, match=r"part-000000-000000.parquet is missing"):
        convert(source, str(goal), in_threads)
    (goal / RECORD).write_text("{}", encoding="utf-8")
    with pytest.raises(CommitError, match=r"not a record of this program"):
        ConversionFolder(Folder.at(str(goal))).read()


def test_parts_are_marked_and_have_row_groups_that_units_can_read(tmp_path: Path) -> None:
    groups = [(f"q{at}", "query", [(f"d{at}-{n}", "word " * 4_000) for n in range(20)]) for at in range(60)]
    (tmp_path / "a.jsonl").write_text(nested_lines(groups), encoding="utf-8")
    convert(source_of(tmp_path / "a.jsonl"), str(tmp_path / "in"), in_threads)
    [part] = (tmp_path / "in").glob("part-*")
    metadata = pq.read_metadata(part)
    assert metadata.metadata[b"reranker_batch.prepared"] == b"rows"
    assert max(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups)) < 8 << 20
    assert metadata.num_row_groups > 3


def test_progress_is_told_by_task(tmp_path: Path) -> None:
    two_tsv(tmp_path, GROUPS)
    told: list[tuple[str, int, int]] = []
    convert(source_of(tmp_path, layout="pairs"), str(tmp_path / "in"), in_threads, lambda *step: told.append(step))
    assert told == [("convert", 0, 2), ("convert", 1, 2), ("convert", 2, 2)]


def test_columns_of_parquet_that_need_adaption_are_converted(tmp_path: Path) -> None:
    table = nested_table(GROUPS)
    lists = table["candidates"].combine_chunks()
    texts = pc.struct_field(lists.values, "text")
    inner = pa.StructArray.from_arrays(
        [pc.struct_field(lists.values, "doc_id"), pa.StructArray.from_arrays([texts], ["contents"])], ["id", "doc"]
    )
    table = table.set_column(2, "hits", pa.ListArray.from_arrays(lists.offsets, inner))
    write(table, tmp_path / "in" / "a.parquet", row_group_size=4)
    columns = {"candidates": "hits", "doc_id": "id", "document": "doc.contents"}
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), columns=columns)
    job.run()
    assert kept_rows(tmp_path / "out") == right_rows(GROUPS)
    assert (tmp_path / "out" / "run" / "input" / RECORD).exists()


def test_a_converted_night_is_reused_by_the_next_whatever_its_form(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    job = job_on(first, jsonl)
    job.run()
    groups = [*GROUPS[3:], ("new", "a new query", [("n", "a new document")])]
    later = replace(job_on(second, tsv, groups), reuse={"from": job.output, "verify_sample": 4})
    report = later.run()
    assert report.totals.reused == sum(len(group[2]) for group in GROUPS[3:])
    assert kept_rows(second / "out") == right_rows(groups)


def test_source_and_output_may_lie_in_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch, "nightly") as options:
        source = Folder.at(f"s3://nightly/a b{options}")
        for at, groups in enumerate([GROUPS[:9], GROUPS[9:]]):
            with source.filesystem.open_output_stream(source.child(f"{at}.jsonl.gz"), compression=None) as sink:
                sink.write(gzip.compress(nested_lines(groups).encode()))
        job = SmallJob(source.uri, f"s3://nightly/out{options}")
        assert job.run().exit_code == 0
        assert "nothing to do" in job.run().message
        output = Folder.at(job.output)
        assert output.names("run", "input") == {RECORD, "part-000000-000000.parquet"}
        assert verify_output(job.output).problems == []


def test_a_conversion_is_the_same_in_processes_of_its_own(tmp_path: Path) -> None:
    two_tsv(tmp_path, GROUPS)
    source = source_of(tmp_path, layout="pairs")
    convert(source, str(tmp_path / "one"), in_threads)
    with processes() as each:
        convert(source, str(tmp_path / "two"), each)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_an_error_of_a_row_comes_back_from_another_process_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"query": "q", "candidates": ["x"]}\n' * 3, encoding="utf-8")
    source = source_of(tmp_path)
    with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"query": 3, "candidates": ["x"]}\n')
    with processes() as each, pytest.raises(InputError, match=r"a.jsonl has changed since it was listed"):
        convert(source, str(tmp_path / "in"), each)
    with (
        processes() as each,
        pytest.raises(InputError, match=r"Column 'query' of a.jsonl .* line 4"),
    ):
        convert(source_of(tmp_path), str(tmp_path / "in"), each)


def test_small_files_share_parts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for at in range(30):
        (tmp_path / "in" / f"{at:02}.jsonl").write_text(f'{{"query": "{at}", "candidates": ["x"]}}\n', encoding="utf-8")
    source = source_of(tmp_path / "in")
    record = convert(source, str(tmp_path / "one"), in_threads)
    assert [part.num_rows for part in record.parts or ()] == [30]
    assert [row["query_id"] for row in rows_of(tmp_path / "one")] == [f"{at:02}.jsonl#0" for at in range(30)]
    parts = convert(source, str(tmp_path / "some"), in_threads, piece_bytes=350).parts
    assert [part.num_rows for part in parts or ()] == [9, 9, 9, 3]
    assert rows_of(tmp_path / "some") == rows_of(tmp_path / "one")


def test_an_output_with_files_of_others_gets_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(nested_lines(GROUPS), encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    config = SmallJob(str(tmp_path / "in.jsonl"), str(tmp_path / "out")).config
    with pytest.raises(ConfigError, match=r"holds files that no run wrote, such as 'notes.txt'"):
        driver.run(config)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["notes.txt"]
