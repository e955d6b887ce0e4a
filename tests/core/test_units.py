"""Units cover the input once, and what was recorded is read back or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.units import FileIdentity, WorkUnit, tiling_problems, unit_id_of, units_digest

IDENTITY = FileIdentity(100, 5, "a" * 64)
OTHER = FileIdentity(100, 5, "b" * 64)
FILES = {"a": 10, "empty": 0, "b": 4}
RECORDS = {path: {"num_rows": rows, **asdict(IDENTITY)} for path, rows in FILES.items()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def unit(index: int, path: str, start: int, stop: int) -> WorkUnit:
    return WorkUnit(unit_id_of(index, start), path, start, stop, 7, IDENTITY)


UNITS = [unit(0, "a", 0, 6), unit(0, "a", 6, 10), unit(2, "b", 0, 4)]


def test_units_that_cover_every_row_once_have_no_problem() -> None:
    assert tiling_problems(UNITS, RECORDS) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda units: units[1:], "Rows 0 to 5 of a belong to no unit."),
        (lambda units: units[:1] + units[2:], "Rows 6 to 9 of a belong to no unit."),
        (lambda units: units[:2], "Rows 0 to 3 of b belong to no unit."),
        (lambda units: [*units, units[2]], "Rows 0 to 3 of b belong to two units."),
        (lambda units: [replace(units[0], row_stop=5), *units[1:]], "Rows 5 to 5 of a belong to no unit."),
        (lambda units: [replace(units[0], row_stop=8), *units[1:]], "Rows 6 to 7 of a belong to two units."),
        (lambda units: [*units[:2], replace(units[2], row_stop=9)], "b has 4 rows, but its units go to row 8."),
        (lambda units: [units[1], units[0], units[2]], "The units are not in the order of the input."),
        (lambda units: [*units, unit(2, "b", 4, 4)], "Unit 00002-0000000004 has no rows."),
        (lambda units: [*units, unit(1, "empty", 0, 0)], "empty has no rows, so it must have 0 units without rows."),
        (lambda units: [*units, unit(3, "c", 0, 1)], "Unit 00003-0000000000 reads c, no file of the input."),
        (
            lambda units: [*units[:2], replace(units[2], identity=OTHER)],
            "was cut from another b than the one on record",
        ),
        (
            lambda units: [*units[:2], replace(units[2], unit_id=unit_id_of(1, 0))],
            "stands where 00002-0000000000 belongs",
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
    changed = [
        UNITS[:2],
        UNITS[::-1],
        *([unit, *UNITS[1:]] for unit in (replace(UNITS[0], num_pairs=8), replace(UNITS[0], identity=OTHER))),
    ]
    digests = {units_digest(units) for units in [UNITS, *changed]}
    assert len(digests) == 1 + len(changed)
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
        "start": [*units[:at], replace(units[at], row_start=units[at].row_start + 1), *units[at + 1 :]],
        "stop": [*units[:at], replace(units[at], row_stop=units[at].row_stop + 1), *units[at + 1 :]],
        "swap": units[::-1],
    }[fault]
    assert (tiling_problems(broken, records) == []) == (broken == units)


@fuzzed
@given(key=st.sampled_from([None, *UNITS[0].to_dict(), "more"]), value=JSON, inner=st.booleans())
def test_what_is_no_unit_is_refused_and_nothing_else_is(key: str | None, value: Any, inner: bool) -> None:
    values = UNITS[0].to_dict()
    if key is not None:
        owner = values["identity"] if inner and key != "identity" else values
        owner[key] = value
    document = json.loads(json.dumps(values if key is not None or inner else value))
    try:
        read = WorkUnit.from_dict(document)
    except ValueError:
        assert json.dumps(document) != json.dumps(UNITS[0].to_dict())
    else:
        assert json.dumps(read.to_dict(), sort_keys=True) == json.dumps(document, sort_keys=True)
        assert isinstance(read.identity, FileIdentity)


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
