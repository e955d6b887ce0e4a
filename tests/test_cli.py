"""The commands as a person types them, each in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tables import nested_table, random_groups, write

ROOT = Path(__file__).parents[1]
GROUPS = random_groups(8, max_candidates=5)
NUM_PAIRS = sum(len(group[2]) for group in GROUPS)


def command(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reranker_batch.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=280,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write(nested_table(GROUPS), tmp_path / "in.parquet")
    path = tmp_path / "job.yaml"
    values = {
        "input": {"path": str(tmp_path / "in.parquet")},
        "model": {"name": "builtin:mini"},
        "output": {"path": str(tmp_path / "out")},
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.ray
def test_a_job_from_start_to_proof(config: Path, tmp_path: Path) -> None:
    """The whole way on a Ray of its own: plan, run through the job's entry point, run again, verify."""
    planned = command("plan", config)
    assert planned.returncode == 0, planned.stderr
    assert f"{NUM_PAIRS:,}" in planned.stdout
    assert not (tmp_path / "out").exists()
    submitted = subprocess.run(
        [sys.executable, "jobs/rerank.py", "--config", str(config), "--set", "ranking.top_n=2"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stderr
    assert f"{NUM_PAIRS:,} scored of {NUM_PAIRS:,}" in submitted.stdout
    assert f"{NUM_PAIRS:,} of {NUM_PAIRS:,} pairs" in submitted.stderr
    again = command("run", config, "--set", "ranking.top_n=2")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    refused = command("run", config)
    assert refused.returncode == 2
    assert "ranking.top_n: 2 -> null" in refused.stderr
    proven = command("verify", tmp_path / "out")
    assert proven.returncode == 0, proven.stderr
    assert "sound" in proven.stdout
    next((tmp_path / "out" / "scores").glob("part-*")).unlink()
    assert command("verify", tmp_path / "out").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent.yaml"], "absent.yaml cannot be read"),
        (["run", "CONFIG", "--set", "model.nmae=x"], "model.nmae: unknown key. Did you mean name?"),
        (["run", "CONFIG", "--set", "model.name=./absent"], "Model folder ./absent does not exist"),
        (["plan", "CONFIG", "--set", "input.path=absent/*.parquet"], "absent/*.parquet"),
        (["verify", "absent"], "absent holds no run"),
    ],
)
def test_what_is_wrong_is_one_message_and_exit_code_2(config: Path, arguments: list[str], message: str) -> None:
    ended = command(*[str(config) if argument == "CONFIG" else argument for argument in arguments])
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_and_lists_need_no_job() -> None:
    assert "--set" in command("run", "--help").stdout
    assert "qwen3-rerank" in command("profiles").stdout
    assert "modernbert" in command("recipes").stdout
