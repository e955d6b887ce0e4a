"""The examples of docs/tables.md: their files, configs and commands, all with the same pairs."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from layout_files import letters_of, load, rows_of, score, write_file
from oracle import logit_of

from reranker_batch import JobConfig
from reranker_batch.cli import run_command

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Example:
    """A layout of the page: its files by name, configs among them, and its commands."""

    title: str
    files: dict[str, str]
    commands: list[list[str]]
    text: str

    @classmethod
    def of(cls, section: str) -> Example:
        title, _, text = section.partition("\n")
        files = re.findall(r"^`([\w/.-]+)`:\n\n```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        return cls(title, dict(files), commands_in(text), text)

    @property
    def configs(self) -> list[str]:
        return [name for name in self.files if name.endswith(".yaml")]

    def lay_out(self, folder: Path) -> None:
        for name, content in self.files.items():
            write_file(folder / name, content)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands_in(text: str) -> list[list[str]]:
    """The arguments of each command."""
    return [shlex.split(line)[1:] for line in re.findall(r"^reranker-batch .*$", text, re.MULTILINE)]


EXAMPLES = [Example.of(text) for text in section("Layouts").split("\n### ")[1:]]
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)


def five_pairs() -> dict[tuple[str, str], tuple[str, str]]:
    """Ids of query and document by their texts, from the first table of the page."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.split("\n## ")[0].splitlines() if re.match(r"\| q\d", line)]
    return {(query, text): (query_id, doc_id) for query_id, query, doc_id, text in rows}


def test_the_page_has_all_layouts() -> None:
    assert len(EXAMPLES) == 16
    assert len(five_pairs()) == 5


@every_example
def test_an_example_gives_the_five_pairs(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example.lay_out(tmp_path)
    has_ids = any(re.search(r"\bd1\b", content) for content in example.files.values())
    for config in example.configs:
        JobConfig.load(tmp_path / config)
        output = tmp_path / "out" / f"{config}.oracle"
        score(load(Path(config), output))
        pairs = scored_pairs(output)
        assert len(set(pairs) - set(five_pairs())) == ("one pair more" in example.text)
        assert pairs.keys() >= five_pairs().keys()
        assert not has_ids or pairs == five_pairs()
        assert letters_of(output) == []


def scored_pairs(output: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """As `five_pairs`; a query is known by the logits of its pairs."""
    queries = {query for query, _ in five_pairs()}
    return {
        (query, text): (query_id, doc_id)
        for query_id, doc_id, _, _, text, logit in rows_of(output)
        for query in queries
        if logit == logit_of(query.encode(), text.encode())
    }


@every_example
def test_an_example_has_one_command_with_its_first_config(example: Example) -> None:
    assert example.commands == [["run", example.configs[0]]]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for each example, by the name of its first config."""
    for example in EXAMPLES:
        example.lay_out(tmp_path / example.configs[0].removesuffix(".yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go(folder: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert run_command(command) == 0, command


@pytest.mark.parametrize("title", ["Which config fits my files?", "Input by reference", "What a plan says"])
def test_the_commands_of_a_section_work(title: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = commands_in(section(title))
    assert commands
    for command in commands:
        folder = next(folder for folder in examples.iterdir() if (folder / command[1]).exists())
        go(folder, command, monkeypatch)


def test_the_exports_of_the_page_work(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = commands_in(section("Results for other tools"))
    assert {command[command.index("--format") + 1] for command in commands} == {"trec", "msmarco", "mteb", "jsonl"}
    for command in commands:
        name = Path(command[1]).name
        monkeypatch.chdir(examples / name)
        if not Path(command[1]).exists():
            score(load(Path(f"{name}.yaml"), Path(command[1])))
        go(examples / name, command, monkeypatch)
        assert Path(command[-1]).exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("title", ["Tevatron"])
def test_the_command_of_an_example_runs(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model that the example names."""
    monkeypatch.chdir(tmp_path)
    (example,) = [example for example in EXAMPLES if example.title == title]
    example.lay_out(tmp_path)
    assert run_command(example.commands[0]) == 0
    (output,) = (tmp_path / "out").iterdir()
    rows = pl.read_parquet(output / "scores" / "*.parquet")
    assert rows.filter(rank=1)["doc_id"].to_list() == ["d3", "d5"]
