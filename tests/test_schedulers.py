"""The files for schedulers run a night, as far as that can be tried without the schedulers."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tables import nested_table, random_groups, write
from typer.main import get_command

from reranker_batch import JobConfig
from reranker_batch.cli import app
from reranker_batch.storage.output.status import output_status

ROOT = Path(__file__).parents[1]
SCHEDULERS = ROOT / "examples" / "schedulers"
SCRIPT = SCHEDULERS / "nightly.sh"


def nightly(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script with the command of this checkout, whatever is installed."""
    command = folder / "bin" / "reranker-batch"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m reranker_batch "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
    )


def config(folder: Path, source: Path, engine: str) -> Path:
    """On Ray, what fails before Ray is needed fails without the imports of a model."""
    path = folder / "nightly.yaml"
    values = {"input": {"path": str(source)}, "model": {"name": "builtin:mini", "precision_sample": 0}}
    path.write_text(json.dumps(values | {"output": {"path": "unused"}, "runtime": {"engine": engine}}))
    return path


def test_the_script_runs_a_night_into_a_folder_with_its_date(tmp_path: Path) -> None:
    write(nested_table(random_groups(3)), tmp_path / "in.parquet")
    before = datetime.now(UTC)
    job = config(tmp_path, tmp_path / "in.parquet", "local")
    done = nightly(tmp_path, job, tmp_path / "nights", "--set", "ranking.top_n=2")
    assert done.returncode == 0, done.stderr
    [output] = (tmp_path / "nights").iterdir()
    assert f"{before:%F}" <= output.name <= f"{datetime.now(UTC):%F}"
    assert output_status(str(output)).state == "complete"
    assert f"kept {output}: one of the 7 newest complete outputs" in done.stdout


def test_what_a_person_has_to_put_right_is_not_tried_again(tmp_path: Path) -> None:
    done = nightly(tmp_path, config(tmp_path, tmp_path / "absent.parquet", "ray"), tmp_path / "nights")
    assert (done.returncode, "attempt" in done.stderr) == (2, False)


def test_a_run_that_failed_is_tried_three_times(tmp_path: Path) -> None:
    write(nested_table(random_groups(3)), tmp_path / "in.parquet")
    now = datetime.now(UTC)
    for day in (now, now + timedelta(days=1)):
        damaged = tmp_path / "nights" / f"{day:%F}" / "run" / "manifest.json"
        damaged.parent.mkdir(parents=True)
        damaged.write_text("{")
    done = nightly(tmp_path, config(tmp_path, tmp_path / "in.parquet", "ray"), tmp_path / "nights")
    assert (done.returncode, done.stderr.count("attempt")) == (1, 3)


def test_the_line_for_cron_has_five_fields_and_calls_the_script() -> None:
    *_, line = (SCHEDULERS / "crontab").read_text(encoding="utf-8").splitlines()
    fields = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5])
    assert "%" not in fields[5], "cron ends a command there"
    assert subprocess.run(["sh", "-n", "-c", fields[5]], check=False).returncode == 0
    _, _, call = fields[5].partition(" && ")
    script, path, _ = call.split()
    assert ROOT / script == SCRIPT
    assert os.access(SCRIPT, os.X_OK)
    JobConfig.load(ROOT / path)


def keywords(call: ast.Call) -> dict[str | None, Any]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def test_the_commands_of_the_dag_are_those_of_this_program() -> None:
    """Read, not run: Airflow is not installed here."""
    tree = ast.parse((SCHEDULERS / "airflow_dag.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "SubmitRayJob" in ast.unparse(node.func)]
    assert [keywords(call)["task_id"].value for call in calls] == ["rerank", "clean"]
    folder = "s3://bucket/reranked"
    for call in calls:
        entrypoint = eval(compile(ast.Expression(keywords(call)["entrypoint"]), "dag", "eval"), {"FOLDER": folder})
        program, name, *arguments = entrypoint.replace("{{ ds }}", "2026-11-24").split()
        assert program == "reranker-batch"
        command = get_command(app).commands[name]  # type: ignore[attr-defined]  # a group
        with command.make_context(name, arguments) as context:
            assert context.params
            if name == "run":
                JobConfig.load(ROOT / str(context.params["config"]), overrides=context.params["overrides"])


@pytest.mark.parametrize("name", ["crontab", "airflow_dag.py"])
def test_all_schedulers_use_the_folder_of_the_config(name: str) -> None:
    folder = JobConfig.load(ROOT / "configs" / "nightly.yaml").output.path.rpartition("/")[0]
    assert f"{folder}\n" in (SCHEDULERS / name).read_text(encoding="utf-8").replace('"', "")
