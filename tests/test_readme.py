"""What the pages tell a reader to type exists and works, and what they show is true."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from reranker_batch import JobConfig, rerank_table

ROOT = Path(__file__).parents[1]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
FOLDERS = [ROOT / name for name in ("docs", "examples", "reranker_batch/builtin")]
PAGES = [*TOP, *(page for folder in FOLDERS for page in sorted(folder.glob("*.md")))]
README = PAGES[0].read_text(encoding="utf-8")
LINES_OF_README = 110
PACKAGE = ROOT / "reranker_batch"

NAMES_OF_OTHERS = {
    *("modeling.py", "results.md", "results.svg"),
    *(
        "scores/",
        "memo/",
        "dead_letters/",
        "run/",
        "run/input/",
        "redriven/",
        *("data/", "dropped/", "ids/"),
        "mini/",
        "out/bench/",
        "additional_chat_templates/",
    ),
}
"""Files and folders of models and outputs, which the pages name too."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that headings have as targets of links, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@every_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {first or second for first, second in named} <= targets


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{page.name} links to {target}"
        assert goal.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(goal), f"{page.name} links to {target}, which has no such heading"


@every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    """Paths of the repository, from its root, from the package or from the folder of the page."""
    text = page.read_text(encoding="utf-8")
    folders = "configs|jobs|docs|tests|benchmarks|examples|reranker_batch"
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.-]*\w)", text)
    named += re.findall(r"`([\w.-]+(?:/[\w.-]+)*(?:\.py|\.sh|\.md|\.toml|\.svg)|[a-z]\w+/(?:[a-z]\w+/)*)`", text)
    homes = (ROOT, PACKAGE, page.parent)
    missing = [name for name in named if not any((home / name).exists() for home in homes)]
    assert sorted({*missing} - NAMES_OF_OTHERS) == []


@every_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


@every_page
def test_no_line_of_prose_is_too_long(page: Path) -> None:
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", prose(page), flags=re.DOTALL)  # written by benchmarks
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 120] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LINES_OF_README
    assert "pip install ." in README


def test_the_configs_in_the_pages_are_valid() -> None:
    for page in PAGES:
        for block in re.findall(r"```yaml\n(input:.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            JobConfig.of(yaml.safe_load(block))


def test_the_commands_of_the_readme_parse() -> None:
    """Every `run` and `plan` line, with its overrides, gives a valid config."""
    lines = re.findall(r"reranker-batch (?:run|plan) +(configs/\S+\.yaml)(.*)", README)
    assert len(lines) >= 2
    for config, rest in lines:
        JobConfig.load(ROOT / config, overrides=re.findall(r"--set (\S+)", rest))


def test_the_ci_gate_calls_the_commands_of_the_readme() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("make quickstart", "make test"):
        assert command in README
        assert command in gate


def markdown_tables(text: str) -> list[list[dict[str, str]]]:
    """The rows of every table, by the names of their columns."""
    tables = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        tables.append([dict(zip(header, row, strict=True)) for row in rows])
    return tables


def test_the_output_in_the_readme_is_that_of_its_input() -> None:
    given, shown = markdown_tables(README)[:2]
    assert (len(given), len(shown)) == (5, 5)
    ranked = rerank_table(pl.DataFrame(given), model="builtin:mini", layout="pairs").with_columns(
        pl.col("relevance_score").map_elements(lambda score: f"{score:.3f}", pl.String),
        pl.col("truncated").cast(pl.String),
    )
    rows = ranked.select(shown[0].keys()).rows()
    assert [tuple(map(str, row)) for row in rows] == [tuple(row.values()) for row in shown]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_blocks(page: Path) -> dict[str, Any]:
    """Run the Python of a page from its beginning to its end; the names that are defined then."""
    names: dict[str, Any] = {"__name__": "example"}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)
    return names


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(ROOT / "README.md")
    assert capsys.readouterr().out.strip().endswith("list.sort() sorts a list.")


def test_the_examples_of_the_python_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "python.md"
    assert len(python_blocks(page)) >= 5
    monkeypatch.chdir(tmp_path)
    names = run_blocks(page)
    assert names["report"].status == "complete"
    assert names["lists"].select("rank", "list").rows() == [(1, "positives"), (2, "negatives")]
    assert names["ranked"]["lang"].to_list() == ["en", "en"]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_well_formed(path: Path) -> None:
    picture = ET.parse(path).getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
