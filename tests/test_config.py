from pathlib import Path
from typing import Any

import pytest

from reranker_batch import JobConfig
from reranker_batch.errors import ConfigError

LEAST: dict[str, Any] = {"input": {"path": "in"}, "model": {"name": "m"}, "output": {"path": "out"}}
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    JobConfig.load(path)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_defaults_are_those_of_the_documentation() -> None:
    config = JobConfig.of(LEAST)
    assert config.input.layout == "nested"
    assert config.limits.profile == "gte-rerank-v2"
    assert config.model.dtype == config.model.device == config.batching.max_batch_tokens == "auto"
    assert (config.ranking.top_n, config.output.layout, config.output.max_failed) == (None, "pairs", 0)


def test_overrides_win_and_are_read_as_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {path: in}\nmodel: {name: m, revision: abc}\noutput: {path: out}\n")
    overrides = ["ranking.top_n=5", "model.revision=null", "input.columns.passthrough=[a, b]", "output.path=x=y"]
    config = JobConfig.load(path, overrides=overrides)
    assert config.ranking.top_n == 5
    assert config.model.revision is None
    assert config.input.columns.passthrough == ["a", "b"]
    assert config.output.path == "x=y"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inptu": {}}, "inptu: unknown key. Did you mean input\\? Known here: input, model, limits"),
        ({"model": {"name": "m", "dtyp": "auto"}}, "model.dtyp: unknown key. Did you mean dtype\\?"),
        ({"input": {}}, "input.path: this key is required"),
        ({"ranking": {"top_n": 0}}, "ranking.top_n: .*greater than or equal to 1 \\(seen: 0\\)"),
        ({"ranking": {"top_n": "5"}}, "ranking.top_n: .*integer \\(seen: '5'\\)"),
        ({"output": {"path": "o", "max_failed": "few"}}, "'few' is neither a count nor a share"),
        ({"runtime": {"min_replicas": 3, "max_replicas": 2}}, "max_replicas=2 is below min_replicas=3"),
        (
            {"batching": {"max_batch_tokens": 256}, "limits": {"max_pair_tokens": 512}},
            "batching.max_batch_tokens=256 is below limits.max_pair_tokens=512, so a full-length pair would never fit",
        ),
        ({"input": {"path": "in", "columns": {"passthrough": ["rank"]}}}, "rank: a column of the output has this name"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobConfig.of(LEAST | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input: [", "is not YAML"),
        ("- a\n", "must hold tables"),
        ("input: {path: in}\n", "model: this key is required"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobConfig.load(write(tmp_path, text))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent.yaml cannot be read: No such file"):
        JobConfig.load(tmp_path / "absent.yaml")


def test_an_override_that_is_no_assignment_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {path: in}\n")
    with pytest.raises(ConfigError, match="not of the form table.key=value"):
        JobConfig.load(path, overrides=["ranking.top_n"])
