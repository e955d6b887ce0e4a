"""Random Parquet goes through whole or is refused with one of our messages: no third way."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from arrow_values import BYTES, DECIMALS, FLOATS, INTEGERS, TEXT_TYPES, TIMES, array_of, fits, meaning, types
from fuzzing import fuzzed
from hypothesis import event, given
from hypothesis import strategies as st
from oracle import ByteEncoder, HashScorer

from reranker_batch.config import InputConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.counts import Counts
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.tiling import tiling_problems
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import Span, WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.pipeline import ResultSettings, finish_unit, prepare_unit, score_unit
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.output.dead_letters import dead_letter_table
from reranker_batch.storage.output.parts import DEAD_LETTERS, SCORES, STAGING, PartRecord, publish_part, read_table

LIMITS = RequestLimits(max_item_tokens=100, max_pair_tokens=400)
ID_TYPES = [*INTEGERS, *FLOATS, *TIMES, *DECIMALS, *BYTES, *TEXT_TYPES, pa.uuid(), pa.bool_(), pa.null()]
PLACE = ["row", "index"]
LAYOUTS = ["structs", "texts", "parallel_lists", "pairs"]


@dataclass(frozen=True)
class Columns:
    """Types of one file. `ids` are None where the file has no such column."""

    query_id: pa.DataType | None
    doc_id: pa.DataType | None
    text: pa.DataType
    extra: pa.DataType
    field: pa.DataType


@dataclass(frozen=True)
class Example:
    layout: str
    files: list[Columns]
    num_rows: list[int]
    seed: int
    options: list[dict[str, Any]]
    passthrough: list[str]
    unit_pairs: int

    @cached_property
    def tables(self) -> list[pa.Table]:
        chance = random.Random(self.seed)
        return [table_of(self.layout, *file, chance) for file in zip(self.files, self.num_rows, strict=True)]

    def write(self, folder: Path) -> InputConfig:
        for at, (table, options) in enumerate(zip(self.tables, self.options, strict=True)):
            pq.write_table(table, folder / f"{at}.parquet", **options)
        layout = "pairs" if self.layout == "pairs" else "nested"
        values = {"path": str(folder), "layout": layout, "columns": {"passthrough": self.passthrough}}
        return InputConfig.model_validate(values)


def columns_of(
    ids: st.SearchStrategy[pa.DataType], extra: st.SearchStrategy[pa.DataType]
) -> st.SearchStrategy[Columns]:
    return st.builds(Columns, st.none() | ids, st.none() | ids, st.sampled_from(TEXT_TYPES), extra, extra)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    layout = draw(st.sampled_from(LAYOUTS))
    first = draw(columns_of(st.sampled_from(ID_TYPES), types()))
    others = columns_of(st.just(first.query_id or pa.string()), st.one_of(types(), st.just(first.extra)))
    files = [first, *draw(st.lists(others, max_size=2))]
    num_rows = [draw(st.integers(0, 7)) for _ in files]
    seed = draw(st.integers(0, 2**32))
    names = ["extra"] if layout in ("texts", "parallel_lists") else ["extra", "field"]
    names += [] if layout == "pairs" else ["candidates"]
    passthrough = draw(st.lists(st.sampled_from(names), unique=True))
    options = [draw(write_options()) for _ in files]
    return Example(layout, files, num_rows, seed, options, passthrough, draw(st.integers(1, 12)))


@st.composite
def write_options(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "row_group_size": draw(st.sampled_from([1, 3, 100])),
        "use_dictionary": draw(st.booleans()),
        "write_statistics": draw(st.booleans()),
        "store_schema": draw(st.booleans()),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "compression": draw(st.sampled_from(["none", "zstd"])),
        "use_deprecated_int96_timestamps": draw(st.sampled_from([False, False, False, True])),
    }


def table_of(layout: str, held: Columns, num_rows: int, chance: random.Random) -> pa.Table:
    """With pairs a query that comes back is likely, and so a refusal."""
    columns = {"query": array_of(held.text, num_rows, chance)}
    if held.query_id is not None:
        columns["query_id"] = array_of(held.query_id, num_rows, chance)
    columns["extra"] = array_of(held.extra, num_rows, chance)
    if layout == "pairs":
        columns |= {"text": array_of(held.text, num_rows, chance), "field": array_of(held.field, num_rows, chance)}
        if held.doc_id is not None:
            columns["doc_id"] = array_of(held.doc_id, num_rows, chance)
        return pa.table(columns)
    fields = [("text", held.text), ("field", held.field)]
    fields += [("doc_id", held.doc_id)] if held.doc_id is not None else []
    item = pa.struct(fields) if layout == "structs" else held.text
    columns["candidates"] = array_of(pa.list_(item), num_rows, chance)
    if layout == "parallel_lists":
        columns["doc_id"] = array_of(pa.list_(held.doc_id or pa.string()), num_rows, chance)
    return pa.table(columns)


@fuzzed
@given(example=examples())
def test_random_parquet_goes_through_whole_or_is_refused_by_name(example: Example) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        config = example.write(folder / "in")
        refusal = go_through(example, config, folder)
    event("went through" if refusal is None else "refused")
    assert refusal is None or ".parquet" in refusal
    assert refusal is None or may_be_refused(example, refusal), refusal


def go_through(example: Example, config: InputConfig, folder: Path) -> str | None:
    """Plan, read, score and write, and check each step; the message where the input is refused."""
    try:
        plan = plan_input(config, unit_pairs=example.unit_pairs)
        assert tiling_problems(plan.units, plan.identity()["files"]) == []
        for unit in plan.units:
            piece = Piece(example, unit, folder / "in")
            rows = plan.source.read(unit)
            piece.check_rows(rows)
            letters = dead_letter_table(rows.dead_letters, plan.source.read_whole(unit), unit)
            piece.check_letters(letters)
            for part in written_parts(unit, rows, letters, config, folder):
                piece.check_part(part)
    except InputError as error:
        return str(error)
    return None


def may_be_refused(example: Example, message: str) -> bool:
    """Whatever its types, a single file of lists goes through, but for times that INT96 keeps too finely."""
    return len(example.files) > 1 or example.layout == "pairs" or "INT96" in message


def written_parts(
    unit: WorkUnit, rows: UnitRows, letters: pa.Table, config: InputConfig, folder: Path
) -> Iterator[pa.Table]:
    """The unit's part in both layouts, written and read back; the dead letters are written too."""
    output, record = Folder.at(str(folder / "out")), PartRecord(unit.unit_id, "made by", Counts())
    for name in (SCORES, DEAD_LETTERS, STAGING):
        (folder / "out" / name).mkdir(parents=True, exist_ok=True)
    publish_part(output, DEAD_LETTERS, letters, letters.schema, record)
    prepared = prepare_unit(unit, rows, ByteEncoder(), LIMITS, keep_documents=False)
    scored = score_unit(prepared, HashScorer())
    layouts: list[Literal["pairs", "nested"]] = ["pairs", "nested"]
    for layout in layouts:
        finished = finish_unit(
            scored, ResultSettings(layout, None, False, Activation(), tuple(config.columns.passthrough))
        )
        publish_part(output, SCORES, finished.part, finished.schema, record)
        yield read_table(output, SCORES, unit.unit_id)


class Piece:
    """The rows of a unit as they were written, in plain Python."""

    def __init__(self, example: Example, unit: WorkUnit, folder: Path) -> None:
        self.num_rows = unit.num_rows
        pieces = [self.values_of(example, span, folder) for span in unit.spans]
        names = dict.fromkeys(name for piece in pieces for name in piece)
        none = [[None] * span.num_rows for span in unit.spans]
        self.values = {
            name: [value for at, piece in enumerate(pieces) for value in piece.get(name, none[at])] for name in names
        }
        self.first_rows = {
            span.file: int(offset) - span.row_start for span, offset in zip(unit.spans, unit.offsets, strict=False)
        }
        self.layout = example.layout
        self.passthrough = example.passthrough

    def values_of(self, example: Example, span: Span, folder: Path) -> dict[str, list[Any]]:
        options = example.options[int(span.file[0])]
        table = example.tables[int(span.file[0])]
        if options["use_deprecated_int96_timestamps"]:  # the writer itself cuts digits and far years
            table = pq.read_table(folder / span.file, partitioning=None, coerce_int96_timestamp_unit="us")
        table = table.slice(span.row_start, span.num_rows)
        return {name: meaning(flat(table[name]), has_spans=options["store_schema"]) for name in table.column_names}

    def candidates(self) -> list[tuple[int, int]]:
        """Row and index; a row of ids without texts counts once, with index -1."""
        if self.layout == "pairs":
            return [(row, 0) for row in range(self.num_rows)]
        texts = self.values["candidates"]
        ids = self.values["doc_id"] if self.layout == "parallel_lists" else [None] * self.num_rows
        places = []
        for row, (held, held_ids) in enumerate(zip(texts, ids, strict=True)):
            places += [(row, index) for index in range(len(held or []))]
            places += [(row, -1)] if not held and held_ids else []
        return places

    def value(self, name: str, row: int, index: int) -> Any:
        """What a candidate had under a name, `text` among them."""
        if self.layout == "pairs":
            return self.values[name][row]
        candidate = self.values["candidates"][row][index]
        return candidate[name] if self.layout == "structs" else candidate

    def check_rows(self, rows: UnitRows) -> None:
        places = [(row["row"], row["index"]) for row in rows.candidates.select(PLACE).to_pylist()]
        refused = [(row["row"], row["index"]) for row in rows.dead_letters.select(PLACE).to_pylist()]
        seen = sorted((row, -1 if index is None else index) for row, index in [*places, *refused])
        if self.layout == "pairs":
            assert [row for row, _ in seen] == list(range(self.num_rows))
        else:
            assert seen == self.candidates()
            assert self.values["query"] == [
                was if now is None else now
                for was, now in zip(self.values["query"], meaning(flat(rows.queries["query"])), strict=True)
            ]
        for name, column in [("text", "document"), *((name, name) for name in self.passthrough)]:
            if column in rows.candidates.column_names:
                now = meaning(flat(rows.candidates[column]))
                assert all(fits(self.value(name, *place), value) for place, value in zip(places, now, strict=True))
            else:
                self.check_column(name, rows.queries[name])

    def check_column(self, name: str, column: pa.ChunkedArray) -> None:
        assert fits(self.values[name], meaning(flat(column)))

    def check_part(self, part: pa.Table) -> None:
        """The columns of queries in the nested layout, where no row is missing."""
        if "results" in part.column_names:
            for name in {"extra", "candidates"} & set(self.passthrough) & set(part.column_names):
                self.check_column(name, part[name])

    def check_letters(self, letters: pa.Table) -> None:
        """The row as it was, its lists cut to the one candidate or whole."""
        lists = {"structs": ["candidates"], "texts": ["candidates"], "pairs": []}.get(
            self.layout, ["candidates", "doc_id"]
        )
        places = letters.select([*PLACE, "file", "reason_code"]).to_pylist()
        for letter, row in zip(places, meaning(flat(letters["input"])), strict=True):
            is_whole = letter["reason_code"] == "unequal_lists"
            assert row is not None or is_whole
            for name, now in (row or {}).items():
                was = self.values[name][self.first_rows[letter["file"]] + letter["row"]]
                if name in lists and was and not is_whole:
                    was = [was[letter["index"]]]
                assert fits(was, now)


def flat(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
