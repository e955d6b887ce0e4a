"""The time that a plan expects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine import SmallJob
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.errors import ConfigError
from reranker_batch.job.pace import Pace, pace_of

LEAST: dict[str, Any] = {"input": {"path": "in"}, "model": {"name": "m"}, "output": {"path": "out"}}
CONFIG = JobConfig.of(LEAST)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    write(nested_table(random_groups(5)), tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run()
    return tmp_path / "out"


def change_report(output: Path, **values: object) -> None:
    path = output / "run" / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def test_a_pace_that_is_given_is_taken() -> None:
    pace = pace_of(CONFIG, pairs_per_s=20.0)
    assert pace is not None
    assert pace.seconds(7200) == 360
    assert pace.shown(7200) == "about 0:06:00 at 20 pairs/s (as given)"
    assert pace_of(CONFIG) is None


@pytest.mark.parametrize(
    ("device", "runtime", "pairs_per_s"),
    [
        ("cpu", {}, 60),
        ("cpu", {"max_replicas": 8}, 60),
        ("cuda", {}, 60),
        ("cuda", {"max_replicas": 8}, 240),
        ("cuda", {"engine": "local"}, 30),
    ],
)
def test_an_earlier_run_has_a_pace(earlier: Path, device: str, runtime: dict[str, Any], pairs_per_s: float) -> None:
    """600 pairs in 10 s on two replicas. On GPUs more replicas are faster, on CPUs they share the same cores."""
    executions = {f"packed in float32 on {device}, 4096 tokens a micro-batch": 1}
    change_report(earlier, computed_pairs=600, wall_s=10.0, replicas=2, executions=executions)
    config = JobConfig.of({**LEAST, "runtime": runtime})
    pace = pace_of(config, like=str(earlier))
    assert isinstance(pace, Pace)
    assert pace.pairs_per_s == pytest.approx(pairs_per_s)
    assert str(earlier) in pace.source


def test_the_pace_of_a_run_as_it_was_written(earlier: Path) -> None:
    report = json.loads((earlier / "run" / "report.json").read_text(encoding="utf-8"))
    pace = pace_of(CONFIG, like=str(earlier))
    assert pace is not None
    assert pace.seconds(report["computed_pairs"]) == pytest.approx(report["wall_s"])


def test_what_has_no_pace_is_refused(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run/report.json"):
        pace_of(CONFIG, like=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="not both"):
        pace_of(CONFIG, like=str(earlier), pairs_per_s=1.0)
    change_report(earlier, computed_pairs=0)
    with pytest.raises(ConfigError, match="scored no pairs"):
        pace_of(CONFIG, like=str(earlier))


@pytest.mark.parametrize("pairs_per_s", [0.0, -1.0, 1e-300, float("inf"), float("nan")])
def test_a_pace_that_is_no_pace_is_refused(pairs_per_s: float) -> None:
    with pytest.raises(ConfigError, match="give a number, 0.001 or more"):
        pace_of(CONFIG, pairs_per_s=pairs_per_s)
