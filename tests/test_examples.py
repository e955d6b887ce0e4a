"""The files that users copy run, and the readers of an output agree."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from outputs import finished

from reranker_batch import JobConfig, LabelConfig

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = EXAMPLES.parent / "configs"


@pytest.fixture(scope="module")
def readers() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "read_output.py"))


def test_python_api_prints_the_right_document_first(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "python_api.py"), run_name="__main__")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("To read lines from a file, loop over the file object.")


def test_all_readers_see_the_same_rows(tmp_path: Path, readers: dict[str, Any]) -> None:
    output = finished(tmp_path)
    scores = [(row["query_id"], row["doc_id"], row["relevance_score"]) for row in output.rows() if row["rank"] == 1]
    assert len(scores) > 3
    assert readers["with_polars"](str(output.path)).rows() == scores
    from_pandas: pd.DataFrame = readers["with_pandas"](str(output.path))
    assert [*from_pandas.itertuples(index=False, name=None)] == scores
    assert sorted(readers["with_duckdb"](str(output.path)).fetchall()) == sorted(scores)


def test_an_output_that_is_not_served_is_not_read(
    tmp_path: Path, readers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gated = finished(tmp_path, gated=True)
    with pytest.raises(SystemExit, match="is not complete"):
        readers["main"](str(gated.path), "polars")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("[!r]*.yaml")), ids=lambda path: path.name)
def test_every_config_is_valid(path: Path) -> None:
    (LabelConfig if path.name == "label.yaml" else JobConfig).load(path)
