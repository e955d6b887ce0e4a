"""Units cover the input once, and what was recorded is read back or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.tiling import tiling_problems
from reranker_batch.core.units import FileIdentity, Span, WorkUnit, request_id_of, unit_id_of, units_digest

IDENTITY = FileIdentity(100, 5, "a" * 64)
OTHER = FileIdentity(100, 5, "b" * 64)
FILES = {"a": 10, "empty": 0, "b": 4}
RECORDS = {path: {"num_rows": rows, **asdict(IDENTITY)} for path, rows in FILES.items()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def span(index: int, path: str, start: int, stop: int) -> Span:
    return Span(index, path, start, stop, IDENTITY)


def unit_of(*spans: Span) -> WorkUnit:
    return WorkUnit(unit_id_of(spans[0].file_index, spans[0].row_start), spans, 7)


def unit(index: int, path: str, start: int, stop: int) -> WorkUnit:
    return unit_of(span(index, path, start, stop))


def changed(unit: WorkUnit, at: int = 0, **values: Any) -> WorkUnit:
    """One span with other values."""
    return replace(unit, spans=(*unit.spans[:at], replace(unit.spans[at], **values), *unit.spans[at + 1 :]))


UNITS = [unit(0, "a", 0, 6), unit(0, "a", 6, 10), unit(2, "b", 0, 4)]
SPANNING = [unit(0, "a", 0, 6), unit_of(span(0, "a", 6, 10), span(2, "b", 0, 4))]


def test_units_that_cover_every_row_once_have_no_problem() -> None:
    assert tiling_problems(UNITS, RECORDS) == []
    assert tiling_problems(SPANNING, RECORDS) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda units: units[1:], "Rows 0 to 5 of a belong to no unit."),
        (lambda units: units[:1] + units[2:], "Rows 6 to 9 of a belong to no unit."),
        (lambda units: units[:2], "Rows 0 to 3 of b belong to no unit."),
        (lambda units: [*units, units[2]], "Rows 0 to 3 of b belong to two units."),
        (lambda units: [changed(units[0], row_stop=5), *units[1:]], "Rows 5 to 5 of a belong to no unit."),
        (lambda units: [changed(units[0], row_stop=8), *units[1:]], "Rows 6 to 7 of a belong to two units."),
        (lambda units: [*units[:2], changed(units[2], row_stop=9)], "b has 4 rows, but its units go to row 8."),
        (lambda units: [units[1], units[0], units[2]], "The units are not in the order of the input."),
        (lambda units: [*units, unit(2, "b", 4, 4)], "Unit 00002-0000000004 has no rows of b."),
        (lambda units: [*units, unit(1, "empty", 0, 0)], "empty has no rows, so it must have 0 units without rows."),
        (lambda units: [*units, unit(3, "c", 0, 1)], "Unit 00003-0000000000 reads c, no file of the input."),
        (
            lambda units: [*units[:2], changed(units[2], identity=OTHER)],
            "was cut from another b than the one on record",
        ),
        (
            lambda units: [*units[:2], replace(units[2], unit_id=unit_id_of(1, 0))],
            "stands where 00002-0000000000 belongs",
        ),
        (lambda units: [*units[:2], changed(units[2], file_index=1)], "counts b as file 1 of the input, it is file 2."),
        (
            lambda units: [unit_of(*units[0].spans, *units[1].spans), units[2]],
            "Unit 00000-0000000000 lists a file twice.",
        ),
        (
            lambda units: [unit_of(*units[0].spans, *units[2].spans), units[1]],
            "The units are not in the order of the input.",
        ),
        (
            lambda _: [SPANNING[0], changed(SPANNING[1], 1, row_stop=3)],
            "Rows 3 to 3 of b belong to no unit.",
        ),
        (
            lambda _: [SPANNING[0], changed(SPANNING[1], 1, identity=OTHER)],
            "Unit 00000-0000000006 was cut from another b than the one on record.",
        ),
    ],
)
def test_units_that_leave_out_or_repeat_rows_are_named(
    change: Callable[[list[WorkUnit]], list[WorkUnit]], problem: str
) -> None:
    assert any(problem in line for line in tiling_problems(change(UNITS), RECORDS))


def test_an_input_without_rows_is_one_unit_without_rows() -> None:
    records = {path: {**RECORDS[path], "num_rows": 0} for path in ("a", "b")}
    whole = [unit(0, "a", 0, 0)]
    assert tiling_problems(whole, records) == []
    assert tiling_problems([], records) != []
    assert tiling_problems([*whole, *whole], records) != []
    assert tiling_problems([unit(1, "b", 0, 0)], records) != []


def test_the_digest_depends_on_every_field_and_on_the_order() -> None:
    others = [
        UNITS[:2],
        UNITS[::-1],
        [replace(UNITS[0], num_pairs=8), *UNITS[1:]],
        [changed(UNITS[0], identity=OTHER), *UNITS[1:]],
        SPANNING,
    ]
    digests = {units_digest(units) for units in [UNITS, *others]}
    assert len(digests) == 1 + len(others)
    assert units_digest([WorkUnit.from_dict(json.loads(json.dumps(u.to_dict()))) for u in UNITS]) == units_digest(UNITS)


@fuzzed
@given(
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 5), max_size=6),
    fault=st.sampled_from(["none", "drop", "repeat", "start", "stop", "swap"]),
    at=st.integers(0, 30),
)
def test_any_lost_or_repeated_row_is_noticed(rows: list[int], cuts: list[int], fault: str, at: int) -> None:
    records = {f"f{index}": {"num_rows": count, **asdict(IDENTITY)} for index, count in enumerate(rows)}
    units = []
    for index, count in enumerate(rows):
        edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
        units += [unit(index, f"f{index}", *pair) for pair in pairwise(edges)]
    units = units or [unit(0, "f0", 0, 0)]
    assert tiling_problems(units, records) == []
    at %= len(units)
    broken = {
        "none": units,
        "drop": units[:at] + units[at + 1 :],
        "repeat": [*units[: at + 1], *units[at:]],
        "start": [*units[:at], changed(units[at], row_start=units[at].spans[0].row_start + 1), *units[at + 1 :]],
        "stop": [*units[:at], changed(units[at], row_stop=units[at].spans[0].row_stop + 1), *units[at + 1 :]],
        "swap": units[::-1],
    }[fault]
    assert (tiling_problems(broken, records) == []) == (broken == units)


@fuzzed
@given(
    key=st.sampled_from([None, *UNITS[0].to_dict(), *asdict(UNITS[0].spans[0]), "more"]),
    value=JSON,
    depth=st.integers(0, 2),
)
def test_what_is_no_unit_is_refused_and_nothing_else_is(key: str | None, value: Any, depth: int) -> None:
    values = UNITS[0].to_dict()
    if key is not None:
        span = values["spans"][0]
        [values, span, span["identity"]][depth][key] = value
    document = json.loads(json.dumps(values if key is not None or depth else value))
    try:
        read = WorkUnit.from_dict(document)
    except ValueError:
        assert json.dumps(document) != json.dumps(UNITS[0].to_dict())
    else:
        assert json.dumps(read.to_dict(), sort_keys=True) == json.dumps(document, sort_keys=True)
        assert all(isinstance(span.identity, FileIdentity) for span in read.spans)


def test_rows_of_a_unit_lead_to_rows_of_its_files() -> None:
    files, rows = SPANNING[1].places_of(np.arange(8))
    assert files.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert rows.tolist() == [6, 7, 8, 9, 0, 1, 2, 3]
    assert SPANNING[1].head(5, 3).spans == (span(0, "a", 6, 10), span(2, "b", 0, 1))
    assert SPANNING[1].head(4, 3).spans == (span(0, "a", 6, 10),)
    assert unit(0, "a", 0, 0).head(1, 3).spans == (span(0, "a", 0, 0),)
    assert SPANNING[0].shown == "a, rows 0 to 5"
    assert SPANNING[1].shown == "row 6 of a to row 3 of b (2 files)"
    assert request_id_of(2, 3, 1) == "00002-0000000003-1"


@fuzzed
@given(record=JSON)
def test_a_damaged_record_of_a_file_is_a_problem_and_no_crash(record: Any) -> None:
    assert tiling_problems([], {"a": record}) != []


def test_what_changed_in_a_file_is_said() -> None:
    assert IDENTITY.changes_in(IDENTITY) == []
    assert IDENTITY.changes_in(replace(IDENTITY, modified_ns=None)) == []
    by_the_millisecond, by_the_second = (replace(IDENTITY, modified_ns=ns) for ns in (7_123_000_000, 7_000_000_000))
    assert by_the_millisecond.changes_in(by_the_second) == by_the_second.changes_in(by_the_millisecond) == []
    assert by_the_millisecond.changes_in(replace(IDENTITY, modified_ns=7_123_000_001)) != []
    assert by_the_second.changes_in(replace(IDENTITY, modified_ns=8_000_000_000)) != []
    changes = IDENTITY.changes_in(FileIdentity(2_000, 6, "b" * 64))
    assert changes == [
        "it had 100 bytes and has 2,000",
        "its footer is another one",
        "it was written again at another time",
    ]
