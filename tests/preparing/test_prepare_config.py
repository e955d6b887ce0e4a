"""The section `prepare`: its short forms, on the command line too, and what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reranker_batch import JobConfig
from reranker_batch.config.page import config_schema
from reranker_batch.config.prepare_job import PrepareJob
from reranker_batch.errors import ConfigError

BASE = {"model": {"name": "builtin:mini"}, "output": {"path": "out"}}
TABLES = {"run": "run.trec", "queries": "queries.jsonl", "corpus": "corpus"}


def loaded(folder: Path, prepare: dict[str, Any], *overrides: str, **sections: Any) -> JobConfig:
    (folder / "job.yaml").write_text(yaml.safe_dump({**BASE, **sections, "prepare": prepare}))
    return JobConfig.load(folder / "job.yaml", overrides=overrides)


def test_a_table_is_a_path_or_a_section(tmp_path: Path) -> None:
    short = loaded(tmp_path, TABLES)
    assert short == loaded(tmp_path, {name: {"path": path} for name, path in TABLES.items()})
    assert short.input.path == "out/run/input"
    (tmp_path / "again.yaml").write_text(short.to_yaml())
    assert JobConfig.load(tmp_path / "again.yaml") == short


def test_overrides_of_a_table(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, TABLES, "prepare.run=other.trec", "prepare.corpus.text=[title, text]", "prepare.run.score=3"
    )
    assert (config.prepare.run.path, config.prepare.run.score) == ("other.trec", 3)
    assert (config.prepare.corpus.path, config.prepare.corpus.text) == ("corpus", ["title", "text"])
    redriven = loaded(tmp_path, TABLES, "prepare.run=null", "input.path=dead")
    assert (redriven.prepare.is_wanted, redriven.input.path) == (False, "dead")


def test_the_input_is_what_is_prepared(tmp_path: Path) -> None:
    assert loaded(tmp_path, {**TABLES, "output": "in"}).input.path == "in"
    assert (
        loaded(tmp_path, TABLES, "output.path=s3://bucket/out?region=x").input.path
        == "s3://bucket/out/run/input?region=x"
    )
    with pytest.raises(ConfigError, match=r"input.path=x and prepare.run=run.trec are both inputs"):
        loaded(tmp_path, TABLES, input={"path": "x"})
    with pytest.raises(ConfigError, match=r"queries is missing: a run of ids needs queries and corpus"):
        loaded(tmp_path, {"run": "r", "corpus": "c"})
    with pytest.raises(ConfigError, match=r"input: this key is required"):
        loaded(tmp_path, {})
    with pytest.raises(ConfigError, match=r"prepare.run.file: unknown key"):
        loaded(tmp_path, {**TABLES, "run": {"file": "r"}})


def test_a_preparation_alone_has_no_model() -> None:
    alone = PrepareJob.of({"prepare": {"run": "pairs.tsv", "output": "in"}, "input": {"columns": {"query": 2}}})
    assert isinstance(alone, PrepareJob)
    assert alone.input is not None
    assert (alone.input.path, alone.input.columns.query) == ("in", 2)
    with pytest.raises(ConfigError, match="rankin"):
        PrepareJob.of({"prepare": {"run": "pairs.tsv", "output": "in"}, "rankin": {}})


def test_the_schema_for_editors_takes_both_forms() -> None:
    schema = yaml.safe_load(config_schema())
    assert "input" not in schema["required"]
    for name in TABLES:
        forms = schema["$defs"]["PrepareConfig"]["properties"][name]["anyOf"]
        assert {"type": "string"} in forms
