"""The layouts that people have are scored by config alone: the right pairs, with their ids, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from layout_files import (
    NAMES,
    configs_of,
    expected_of,
    lay_out,
    letters_of,
    load,
    right_letters,
    right_rows,
    rows_of,
    score,
)

SCORED = [(name, config) for name in NAMES for config in configs_of(name) if name == "parallel_lists"]


@pytest.mark.parametrize(("name", "config"), SCORED)
def test_a_layout_is_scored_by_config_alone(
    name: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(name, tmp_path / "in"))
    output, expected = tmp_path / "out", expected_of(name)
    score(load(Path(config), output))
    assert_rows(rows_of(output), right_rows(expected))
    assert_rows(letters_of(output), right_letters(expected))


def assert_rows(rows: list[tuple[Any, ...]], right: list[tuple[Any, ...]]) -> None:
    """The first two values are ids, which are anything that is not empty where the right one is None."""
    assert len(rows) == len(right)
    for row, right_row in zip(rows, right, strict=True):
        assert row == (right_row[0] or row[0], right_row[1] or row[1], *right_row[2:])
        assert all(row[:2])


def test_there_is_a_folder_for_each_layout() -> None:
    assert len(NAMES) == 17, "sixteen, and the samples of an evaluator in their two forms"
    assert all("config.yaml" in configs_of(name) for name in NAMES)
