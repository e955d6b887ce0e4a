"""What a plan accepts, refuses and promises."""

import struct
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.config import InputConfig
from reranker_batch.core.fingerprint import differences
from reranker_batch.core.tiling import tiling_problems
from reranker_batch.core.units import FileIdentity, WorkUnit
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.input.cutting import cut_input
from reranker_batch.storage.input.input_file import InputFile
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.input.query_runs import QueryRuns, refuse_returning

IDENTITY = FileIdentity(1, None, "0" * 64)
STRUCT = pa.struct([("doc_id", pa.string()), ("text", pa.string())])


def config_of(path: Path | str, layout: str = "nested", **columns: Any) -> InputConfig:
    return InputConfig.model_validate({"path": str(path), "layout": layout, "columns": columns})


def plan_of(path: Path | str, layout: str = "nested", unit_pairs: int | str = "auto", **columns: Any) -> InputPlan:
    return plan_input(config_of(path, layout, **columns), unit_pairs=unit_pairs)  # type: ignore[arg-type]


def nested(num_rows: int = 3, per_row: int = 2, **more: Any) -> pa.Table:
    rows = [[{"doc_id": f"d{at}", "text": "t"} for at in range(per_row)] for _ in range(num_rows)]
    columns = {
        "query_id": pa.array([f"q{row}" for row in range(num_rows)], pa.string()),
        "query": pa.array(["?"] * num_rows, pa.string()),
        "candidates": pa.array(rows, pa.list_(STRUCT)),
    }
    return pa.table(columns | more)


def pairs(ids: list[Any], **more: Any) -> pa.Table:
    texts = pa.array([f"text of {value}" for value in ids], pa.string())
    columns = {"query_id": pa.array(ids), "query": texts, "doc_id": texts, "text": texts}
    return pa.table(columns | more)


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def file_of(path: str, rows: list[int], pairs: list[int] | None = None) -> InputFile:
    return InputFile(path, sum(rows), IDENTITY, tuple(rows), tuple(rows if pairs is None else pairs))


def bounds_of(units: Sequence[WorkUnit]) -> list[tuple[int, int]]:
    """Of units of one file each."""
    return [(span.row_start, span.row_stop) for [span] in (unit.spans for unit in units)]


# --- files that cannot be used


def test_all_bad_files_are_listed_by_name_in_one_error(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", nested(200))
    content = good.read_bytes()
    footer_length = int.from_bytes(content[-8:-4], "little")
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "truncated.parquet").write_bytes(content[:-100])
    (tmp_path / "text.parquet").write_text("query_id,query\n1,what is this\n")
    (tmp_path / "encrypted.parquet").write_bytes(content[:-4] + b"PARE")
    (tmp_path / "length.parquet").write_bytes(content[:-8] + struct.pack("<I", 1 << 30) + b"PAR1")
    (tmp_path / "footer.parquet").write_bytes(content[: -8 - footer_length] + b"\xff" * footer_length + content[-8:])
    (tmp_path / "gap.parquet").write_bytes(content[:4] + content[4 + 500 :])
    with pytest.raises(InputError) as caught:
        plan_of(tmp_path)
    message = str(caught.value)
    assert "7 of 8 files" in message
    for name in ["empty", "truncated", "text", "encrypted", "length", "footer", "gap"]:
        assert f"{name}.parquet cannot be used" in message
    assert "good.parquet" not in message


def test_bad_files_are_skipped_and_named_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "good.parquet", nested(4))
    write(tmp_path / "other.parquet", pa.table({"a": [1]}))
    (tmp_path / "empty.parquet").write_bytes(b"")
    config = InputConfig.model_validate({"path": str(tmp_path), "skip_bad_files": True})
    plan = plan_input(config, unit_pairs="auto")
    assert [file.path for file in plan.files] == ["good.parquet"]
    assert plan.skipped.keys() == {"empty.parquet", "other.parquet"}
    assert "it is empty (0 bytes)" in plan.skipped["empty.parquet"]
    assert "'candidates' is missing in other.parquet" in plan.skipped["other.parquet"]
    assert sum("Skipped, as input.skip_bad_files says" in message for message in caplog.messages) == 2
    before = plan.identity()
    write(tmp_path / "empty.parquet", nested(1))
    lines = differences(before, plan_input(config, unit_pairs="auto").identity())
    assert "skipped.empty.parquet: true -> (absent)" in lines
    (tmp_path / "good.parquet").unlink()
    (tmp_path / "empty.parquet").unlink()
    with pytest.raises(InputError, match="other.parquet"):
        plan_input(config, unit_pairs="auto")


@pytest.mark.parametrize("options", [{"write_page_checksum": True, "compression": "none"}, {"compression": "zstd"}])
def test_damaged_pages_are_found_before_anything_starts_where_that_is_asked_for(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    write(tmp_path / "good.parquet", nested(200), **options)
    bad = write(tmp_path / "bad.parquet", nested(200), **options)
    column = pq.read_metadata(bad).row_group(0).column(0)
    content = bytearray(bad.read_bytes())
    content[column.data_page_offset - 60 : column.data_page_offset - 20] = b"\xff" * 40  # inside the dictionary page
    bad.write_bytes(content)
    values = {"path": str(tmp_path), "check_pages": True}
    assert plan_of(tmp_path).skipped == {}
    with pytest.raises(InputError, match=r"bad.parquet cannot be used: its pages cannot be read \(.+\)"):
        plan_input(InputConfig.model_validate(values), unit_pairs="auto")
    plan = plan_input(InputConfig.model_validate({**values, "skip_bad_files": True}), unit_pairs="auto")
    assert [file.path for file in plan.files] == ["good.parquet"]
    assert plan.skipped.keys() == {"bad.parquet"}


def test_an_extension_type_is_refused_before_its_code_runs(tmp_path: Path) -> None:
    ran: list[str] = []

    class Payload(pa.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pa.binary(), "test.payload")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"metadata"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Payload":
            ran.append("deserialized")
            return cls()

    pa.register_extension_type(Payload())
    try:
        payload = pa.ExtensionArray.from_storage(Payload(), pa.array([b"x"] * 3))
        inside = pa.StructArray.from_arrays([payload], ["secret"])
        write(tmp_path / "top.parquet", nested(payload=payload))
        write(tmp_path / "deep.parquet", nested(inside=inside))
        ran.clear()
        with pytest.raises(InputError, match=r"(?s)'inside\.secret' is 'test\.payload'.*'payload' is 'test\.payload'"):
            plan_of(tmp_path)
        assert ran == []
    finally:
        pa.unregister_extension_type("test.payload")


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (
            nested().drop_columns("query"),
            {},
            r"Column 'query' is missing in f.parquet; found: query_id, candidates. Set",
        ),
        (nested(), {"query_id": "qid"}, r"'qid' is missing in f.parquet.*Set input.columns.query_id"),
        (nested(), {"document": "body"}, r"Field 'body' of 'candidates' in f.parquet is missing.*found: doc_id, text"),
        (nested(), {"doc_id": "pid"}, r"Field 'pid' of 'candidates' is missing"),
        (nested(), {"passthrough": ["score"]}, r"Passthrough 'score' is missing in f.parquet"),
        (nested(text=pa.array(["a"] * 3)), {"passthrough": ["text"]}, r"a column and a field.*not clear which"),
        (nested(candidates=pa.array(["a"] * 3)), {}, r"'candidates' in f.parquet is large_string.*input.layout: pairs"),
        (pairs(["a"]), {}, r"'candidates' is missing in f.parquet.*input.layout: pairs\?"),
        (nested(candidates=pa.array([[1]] * 3)), {}, r"list of int64"),
        (nested(query=pa.array([1, 2, 3])), {}, r"'query' in f.parquet is int64, text is expected"),
        (nested(query_id=pa.array([[1]] * 3)), {}, r"an id must be one value"),
        (
            nested(candidates=pa.array([["a"]] * 3), doc_id=pa.array(["a"] * 3)),
            {},
            r"a list of ids for the list of texts",
        ),
    ],
)
def test_a_wrong_column_is_named_with_what_to_do(
    tmp_path: Path, table: pa.Table, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_of(write(tmp_path / "f.parquet", table), **columns)


def test_nested_data_read_as_pairs_hints_at_the_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="input.layout: nested"):
        plan_of(write(tmp_path / "f.parquet", nested()), "pairs")


def test_doubled_column_names_are_refused(tmp_path: Path) -> None:
    table = nested()
    write(tmp_path / "a.parquet", table.append_column("query", table["query"]))
    doubled = pa.struct([("text", pa.string()), ("text", pa.string())])
    lists = pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([pa.array(["a"])] * 2, fields=list(doubled)))
    write(tmp_path / "b.parquet", pa.table({"query": pa.array(["?"]), "candidates": lists}))
    with pytest.raises(InputError, match=r"(?s)'query' stands twice in a.parquet.*'text' of 'candidates' stands twice"):
        plan_of(tmp_path)


def test_names_of_the_jobs_own_columns_cannot_be_passed_through(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="query_at is a name that the job needs itself"):
        plan_of(write(tmp_path / "f.parquet", nested()), passthrough=["query_at"])


def test_a_name_that_is_no_text_is_shown_and_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", nested(NAME=pa.array([1, 2, 3])), store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"NAME", b"NA\xffE"))
    for passthrough in ([], ["NA"]):
        with pytest.raises(InputError, match=r"f.parquet cannot be used: .* is not valid UTF-8: b'NA\\xffE'"):
            plan_of(path, passthrough=passthrough)


def test_doubled_names_deep_inside_are_refused(tmp_path: Path) -> None:
    """By name one of them would stand for both."""
    doubled = pa.StructArray.from_arrays([pa.array([1, 2, 3])] * 2, fields=[pa.field("x", pa.int64())] * 2)
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([doubled], ["inner"]))
    with pytest.raises(InputError, match=r"'x' of 'outer.inner' stands twice in f.parquet"):
        plan_of(write(tmp_path / "f.parquet", nested(outer=lists)))


def test_a_file_without_columns_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'candidates' is missing in f.parquet; found: none"):
        plan_of(write(tmp_path / "f.parquet", pa.table({})))


def test_a_file_without_row_groups_is_an_input_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.ParquetWriter(path, nested().schema).close()
    assert pq.read_metadata(path).num_row_groups == 0
    for layout, table in (("nested", nested()), ("pairs", pairs(["a"]))):
        pq.ParquetWriter(path, table.schema).close()
        plan = plan_of(path, layout, passthrough=["query"])
        assert bounds_of(plan.units) == [(0, 0)]


# --- files that disagree


def test_id_columns_of_different_families_are_refused_with_both_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested())
    write(tmp_path / "b.parquet", nested(query_id=pa.array([1, 2, 3])))
    with pytest.raises(InputError, match=r"query ids are large_string in a.parquet but int64 in b.parquet"):
        plan_of(tmp_path)


def test_widths_of_integers_and_encodings_of_strings_are_one_family(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested(query_id=pa.array([1, 2, 3], pa.int8())))
    write(tmp_path / "b.parquet", nested(query_id=pa.array([1, 2, 3], pa.uint64())))
    write(tmp_path / "c.parquet", nested(query_id=pa.nulls(3)))
    plan = plan_of(tmp_path)
    ids = [id_ for unit in plan.units for id_ in plan.source.read(unit).queries["query_id"].to_pylist()]
    assert ids == ["1", "2", "3"] * 2 + [f"c.parquet#{row}" for row in range(3)]


def test_files_of_different_layouts_are_refused_with_both_names(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested())
    write(tmp_path / "b.parquet", nested(candidates=pa.array([["x"]] * 3)))
    with pytest.raises(InputError, match=r"a.parquet holds candidates as structs but b.parquet as texts"):
        plan_of(tmp_path)


def test_a_file_whose_lists_are_all_empty_fits_any_layout(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested(candidates=pa.nulls(3)))
    write(tmp_path / "b.parquet", nested(candidates=pa.array([[], [], []])))
    write(tmp_path / "c.parquet", nested())
    assert plan_of(tmp_path).source.columns.shape == "structs"


def test_passthrough_types_are_merged_over_the_files(tmp_path: Path) -> None:
    words = pa.array(["a", "b", "a"])
    write(tmp_path / "a.parquet", nested(lang=pa.nulls(3), score=pa.array([1, 2, 3], pa.int32())))
    write(tmp_path / "b.parquet", nested(lang=words.dictionary_encode(), score=pa.array([1.5, 2, 3], pa.float16())))
    write(tmp_path / "c.parquet", nested(lang=words.cast(pa.string_view()), score=pa.array([1.0, 2, 3])))
    columns = plan_of(tmp_path, passthrough=["lang", "score"]).source.columns
    assert columns.query_passthrough == (pa.field("lang", pa.large_string()), pa.field("score", pa.float64()))


def test_passthrough_types_that_do_not_fit_are_refused_with_both_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested(lang=pa.array(["a"] * 3)))
    write(tmp_path / "b.parquet", nested(lang=pa.array([1, 2, 3])))
    with pytest.raises(InputError, match=r"'lang' is large_string in a.parquet but int64 in b.parquet"):
        plan_of(tmp_path, passthrough=["lang"])


# --- ids that nobody asked for


def warnings_of(path: Path, layout: str = "nested", **columns: Any) -> tuple[str, ...]:
    return plan_of(path, layout, **columns).warnings


@pytest.mark.parametrize("name", ["qid", "QueryID", "query-ids", "_id", "topic_id"])
def test_a_column_that_looks_like_query_ids_is_named(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = nested().rename_columns({"query_id": name})
    path = write(tmp_path / "f.parquet", table)
    [warning] = warnings_of(path)
    assert f"'{name}' may be meant: set input.columns.query_id to it, or to null" in warning
    assert caplog.messages == [warning]
    assert warnings_of(path, query_id=name) == warnings_of(path, query_id=None) == ()
    assert warnings_of(write(tmp_path / "f.parquet", table.rename_columns({name: "other"}))) == ()


def test_what_looks_like_document_ids_is_named_in_every_layout(tmp_path: Path) -> None:
    path, ids = tmp_path / "f.parquet", pa.array([["a"]] * 3)
    structs = pa.array([[{"text": "t", "docid": "d", "pid": 1}]] * 3)
    found = [
        warnings_of(write(path, nested(candidates=structs))),
        warnings_of(write(path, nested(candidates=ids, candidate_ids=ids))),
        warnings_of(write(path, pairs(["a"]).rename_columns({"doc_id": "passage_id"})), "pairs"),
    ]
    for [warning], name in zip(found, ["'docid', 'pid'", "'candidate_ids'", "'passage_id'"], strict=True):
        assert f"has no 'doc_id', so ids are made of file and row. {name} may be meant" in warning
    assert warnings_of(write(path, nested(candidates=structs)), doc_id="pid") == ()


def test_files_without_the_ids_that_others_have_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested())
    write(tmp_path / "b.parquet", nested().drop_columns("query_id"))
    [warning] = warnings_of(tmp_path)
    assert "1 of 2 files, such as b.parquet, have no 'query_id' and others have" in warning


# --- units


def test_the_plan_counts_from_the_footers(tmp_path: Path) -> None:
    write(tmp_path / "x/a b.parquet", nested(10, 3), row_group_size=4)
    write(tmp_path / "x/b.parquet", nested(0))
    plan = plan_of(tmp_path / "x")
    assert [file.path for file in plan.files] == ["a b.parquet", "b.parquet"]
    assert (plan.files[0].num_rows, plan.files[0].row_group_rows, plan.files[0].row_group_pairs) == (
        10,
        (4, 4, 2),
        (12, 12, 6),
    )
    assert plan.files[0].identity.size_bytes == (tmp_path / "x/a b.parquet").stat().st_size
    assert plan.files[0].identity.modified_ns == (tmp_path / "x/a b.parquet").stat().st_mtime_ns
    assert (plan.num_queries, plan.num_pairs, len(plan.units)) == (10, 30, 1)
    assert plan == plan_of(tmp_path / "x")


def test_a_rewritten_file_has_another_footer_digest(tmp_path: Path) -> None:
    before = plan_of(write(tmp_path / "f.parquet", nested(3)))
    after = plan_of(write(tmp_path / "f.parquet", nested(4)))
    assert before.files[0].identity.footer_digest != after.files[0].identity.footer_digest


def test_an_input_without_rows_is_one_unit_without_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", nested(0))
    plan = plan_of(tmp_path)
    assert [(*bounds, unit.num_pairs) for unit, bounds in zip(plan.units, bounds_of(plan.units), strict=True)] == [
        (0, 0, 0)
    ]
    assert plan.num_queries == 0
    write(tmp_path / "p/b.parquet", pairs([], query_id=pa.array([], pa.string())))
    assert len(plan_of(tmp_path / "p", "pairs").units) == 1


def test_a_million_rows_in_one_row_group_are_cut_inside() -> None:
    empty, big = file_of("e", [], []), file_of("f", [1_000_000], [30_000_000])
    units = cut_input([empty, empty, empty, big], unit_pairs=16_384)
    assert 1_800 < len(units) < 1_900
    assert max(unit.num_pairs for unit in units) < 2 * 16_384
    assert units[1].unit_id == f"00003-{bounds_of(units)[1][0]:010d}"


def test_small_row_groups_are_joined_and_near_ones_kept() -> None:
    units = cut_input([file_of("f", [10] * 10 + [130, 90])], unit_pairs=100)
    assert bounds_of(units) == [(0, 100), (100, 230), (230, 320)]


@given(
    files=st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), max_size=6), min_size=1, max_size=5),
    unit_pairs=st.integers(1, 500),
    anew=st.sets(st.integers(0, 4)),
    data=st.data(),
)
def test_units_cover_the_input_once_and_never_split_a_query(
    files: list[list[tuple[int, int]]], unit_pairs: int, anew: set[int], data: st.DataObject
) -> None:
    rows = [[count for count, _ in groups] for groups in files]
    starts = [data.draw(st.lists(st.integers(0, max(sum(counts) - 1, 0)), max_size=30)) for counts in rows]
    places = [sorted({0, *some}) if sum(counts) else [] for some, counts in zip(starts, rows, strict=True)]
    for query_starts in [None, [np.array(some, dtype=np.int64) for some in places]]:
        weights = rows if query_starts else [[count * weight for count, weight in groups] for groups in files]
        listed = [file_of(str(at), *counts) for at, counts in enumerate(zip(rows, weights, strict=True))]
        units = cut_input(listed, unit_pairs=unit_pairs, starts_anew=anew, query_starts=query_starts)
        records = {file.path: {"num_rows": file.num_rows, **asdict(file.identity)} for file in listed}
        assert tiling_problems(units, records) == []
        assert sum(unit.num_pairs for unit in units) == sum(map(sum, weights))
        firsts = [(unit.spans[0].file_index, unit.spans[0].row_start) for unit in units]
        later = {span.file_index for unit in units for span in unit.spans[1:]}
        assert not later & anew
        if query_starts is not None and any(sum(some) for some in rows):
            assert set(firsts) <= {(at, start) for at, some in enumerate(places) for start in some}
        elif all(weight <= 2 * unit_pairs for some in weights for weight in some):
            bounds = {(at, start) for at, counts in enumerate(rows) for start in np.cumsum([0, *counts]).tolist()}
            assert set(firsts) <= bounds
            assert all(unit.num_pairs <= 3 * unit_pairs for unit in units)


# --- pairs


def test_queries_of_pairs_are_counted_exactly_and_stay_whole(tmp_path: Path) -> None:
    ids = [f"q{query}" for query in range(100) for _ in range(query % 7 + 1)]
    write(tmp_path / "a.parquet", pairs(ids), row_group_size=10)
    plan = plan_of(tmp_path, "pairs", unit_pairs=12)
    assert plan.num_queries == 100
    assert len(plan.units) > 20
    for (_, stop), (start, _) in pairwise(bounds_of(plan.units)):
        assert stop == start
        assert ids[stop - 1] != ids[start]


@pytest.mark.parametrize("ids", [["a", "b", "a"], [1, 2, 2, 1], [b"x", b"y", b"x"]])
def test_a_query_that_comes_back_is_refused_with_both_places(tmp_path: Path, ids: list[Any]) -> None:
    value = ids[0].decode() if isinstance(ids[0], bytes) else str(ids[0])
    with pytest.raises(InputError) as caught:
        plan_of(write(tmp_path / "f.parquet", pairs(ids)), "pairs")
    message = str(caught.value)
    assert f"query id '{value}' of row 0 in f.parquet comes back at row {len(ids) - 1} in f.parquet" in message
    assert "Sort the input by query_id, give different queries different ids, or name the input in" in message


def test_a_query_that_goes_on_in_the_next_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pairs(["p", "q"]))
    write(tmp_path / "b.parquet", pairs(["q", "r"]))
    with pytest.raises(InputError, match=r"'q' of row 1 in a.parquet comes back at row 0 in b.parquet"):
        plan_of(tmp_path, "pairs")


def test_a_run_over_batches_and_row_groups_is_one_query(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", pairs(["a"] * 40_000 + ["b"] * 40_000), row_group_size=1_000)
    plan = plan_of(path, "pairs", unit_pairs=1_024)
    assert plan.num_queries == 2
    assert bounds_of(plan.units) == [(0, 40_000), (40_000, 80_000)]


def test_rows_without_an_id_are_told_apart_by_text_and_may_come_back(tmp_path: Path) -> None:
    texts = pa.array(["x", "x", "y", "q", "x", None, None])
    table = pairs([None, None, None, "a", None, None, None], query=texts)
    assert plan_of(write(tmp_path / "f.parquet", table), "pairs").num_queries == 5


def test_ids_that_are_all_null_are_none(tmp_path: Path) -> None:
    """As in JSON lines without ids: rows of one query in two places would be ranked apart."""
    table = pairs([None] * 3, query=pa.array(["one", "two", "one"]))
    with pytest.raises(
        InputError, match=r"query text 'one' of row 0 .* comes back at row 2 .* Sort the input by query,"
    ):
        plan_of(write(tmp_path / "f.parquet", table), "pairs")
    assert plan_of(write(tmp_path / "g.parquet", table.slice(0, 2)), "pairs").num_queries == 2


def test_without_an_id_column_the_text_tells_queries_apart(tmp_path: Path) -> None:
    table = pairs(["a", "a", "b"]).drop_columns("query_id")
    assert plan_of(write(tmp_path / "ok.parquet", table), "pairs").num_queries == 2
    back = pairs(["a", "b", "a"]).drop_columns("query_id")
    with pytest.raises(InputError, match=r"query text 'text of a' of row 0 .* comes back .* Sort the input by query,"):
        plan_of(write(tmp_path / "back.parquet", back), "pairs")


def test_a_long_id_is_shown_shortened(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan_of(write(tmp_path / "f.parquet", pairs(["long\n" * 1000, "b", "long\n" * 1000])), "pairs")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_equal_hashes_of_different_queries_are_no_return() -> None:
    """Keys a, b, c share a hash; only the second b is a return."""
    keys = {("f", 0): "a", ("f", 1): "b", ("g", 0): "c", ("g", 5): "b"}

    def runs(*starts: int) -> QueryRuns:
        return QueryRuns(np.array(starts), np.full(len(starts), 7, np.uint64), np.ones(len(starts), np.bool_))

    def read_key(file: str, row: int) -> tuple[str, str]:
        return "query id", keys[file, row]

    refuse_returning([("f", runs(0, 1)), ("g", runs(0))], read_key, sort_by="query_id")
    with pytest.raises(InputError, match=r"'b' of row 1 in f comes back at row 5 in g"):
        refuse_returning([("f", runs(0, 1)), ("g", runs(0, 5))], read_key, sort_by="query_id")
