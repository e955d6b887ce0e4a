"""The layouts that people have are scored by config alone: the right pairs, with their ids, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_files import NAMES, configs_of, expected_of, lay_out, load, problems_of, score

SCORED = [(name, config) for name in NAMES for config in configs_of(name)]


@pytest.mark.parametrize(("name", "config"), SCORED)
def test_a_layout_is_scored_by_config_alone(
    name: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(name, tmp_path / "in"))
    output, expected = tmp_path / "out", expected_of(name)
    score(load(Path(config), output))
    assert problems_of(output, expected) == []


@pytest.mark.parametrize("name", [name for name in NAMES if "format.yaml" in configs_of(name) and name != "trec"])
def test_the_path_alone_is_enough_where_columns_tell_the_format(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(name, tmp_path / "in"))
    config, output = Path("path.yaml"), tmp_path / "out"
    (line,) = [line for line in Path("format.yaml").read_text("utf-8").splitlines() if "path:" in line]
    config.write_text(f"input:\n{line}\n", encoding="utf-8")
    score(load(config, output))
    assert problems_of(output, expected_of(name)) == []


def test_there_is_a_folder_for_each_layout() -> None:
    assert len(NAMES) == 17, "sixteen, and the samples of an evaluator in their two forms"
    assert all("config.yaml" in configs_of(name) for name in NAMES)
