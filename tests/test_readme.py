"""What the pages tell a reader to type exists and works."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reranker_batch import JobConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named - {"it", "them", "sure"} <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\b((?:configs|jobs|docs|tests|benchmarks|reranker_batch)/[\w/.-]*\w)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_the_configs_in_the_pages_are_valid() -> None:
    for page in PAGES:
        for block in re.findall(r"```yaml\n(input:.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            JobConfig.of(yaml.safe_load(block))


def test_the_commands_of_the_readme_parse() -> None:
    """Every `run` and `plan` line, with its overrides, gives a valid config."""
    lines = re.findall(r"reranker-batch (?:run|plan) (configs/\S+\.yaml)(.*)", README)
    assert len(lines) >= 3
    for config, rest in lines:
        JobConfig.load(ROOT / config, overrides=re.findall(r"--set (\S+)", rest))


def test_the_ci_gate_calls_the_test_command_of_the_readme() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_examples_of_the_python_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["report"].status == "complete"
    assert names["ranked"]["lang"].to_list() == ["en", "en"]
