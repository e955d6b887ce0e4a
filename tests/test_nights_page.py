"""The commands of docs/nights.md, from the first night to the last, on a small table with the model of the package."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from tables import Group, nested_table, write
from typed import run_here

from reranker_batch import JobConfig
from reranker_batch.cli import run_command
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output
from reranker_batch.uris import BUILTIN_FOLDER

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "nights.md").read_text(encoding="utf-8")
QUERIES, CANDIDATES = 10, 5
WORDS = ["river", "stone", "paper", "lamp", "engine", "read", "write", "list"]
WORDS += ["file", "sort", "dict", "string", "number", "loop", "class", "error"]
PAIRS = QUERIES * CANDIDATES


def groups(shift: int = 0, *, changed: str | None = None, missing: int = 0) -> list[Group]:
    """Documents have texts of their own; `shift` gives them those of others, `missing` have none."""

    def text(at: int) -> Any:
        if at < missing:
            return None
        if f"d{at}" == changed:
            return "a new text"
        at = (at + shift) % PAIRS
        return f"{WORDS[at % 16]} {WORDS[at // 4 % 16]} {WORDS[at * 7 % 16]} {at}"

    return [
        (
            f"q{row}",
            f"how to {WORDS[row]} a {WORDS[row + 3]}",
            [(f"d{row * CANDIDATES + at}", text(row * CANDIDATES + at)) for at in range(CANDIDATES)],
        )
        for row in range(QUERIES)
    ]


def commands(section: str) -> list[tuple[list[str], int]]:
    """The commands below a heading, each with the exit code that its comment names."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        (shlex.split(line, comments=True), int((re.findall(r"# exit code (\d)", line) or [0])[0])) for line in lines
    ]


class Nights:
    """The places of the page below a folder, and a config like configs/nightly.yaml for this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        values = yaml.safe_load((ROOT / "configs" / "nightly.yaml").read_text(encoding="utf-8"))
        values["input"].pop("columns")
        values["model"] = {"name": "builtin:mini", "device": "cpu"}
        values["runtime"] = {"engine": "local"}
        self.config = folder / "nightly.yaml"
        self.config.write_text(self.here(yaml.safe_dump(values)))
        shutil.copytree(BUILTIN_FOLDER / "mini", folder / "models" / "tuned")
        model = folder / "models" / "tuned" / "config.json"
        model.write_text(model.read_text() + "\n")

    def here(self, text: str) -> str:
        return text.replace("s3://bucket", str(self.folder)).replace("/models/", f"{self.folder}/models/")

    def go(self, section: str, *tables: list[Group]) -> None:
        """Type the commands of a section; before each, the table is the next of these as long as there are any."""
        changes = iter(tables)
        for (program, *arguments), exit_code in commands(section):
            assert program == "reranker-batch"
            if (table := next(changes, None)) is not None:
                write(nested_table(table), self.folder / "candidates" / "a.parquet")
            own = [str(self.config) if one == "configs/nightly.yaml" else self.here(one) for one in arguments]
            assert (run_here(*own[1:]).exit_code if own[0] == "run" else run_command(own)) == exit_code, own

    def report(self, night: str) -> Any:
        return json.loads((self.folder / "reranked" / night / "run" / "report.json").read_text())

    def scored_again(self, night: str) -> int:
        report = self.report(night)
        assert report["reused"] + report["rescored"] == report["totals"]["scored"]
        rescored: int = report["rescored"]
        return rescored

    def states(self) -> dict[str, str]:
        return {path.name: output_status(str(path)).state for path in sorted((self.folder / "reranked").iterdir())}


def rows(nights: Nights, night: str) -> list[Any]:
    return pl.read_parquet(nights.folder / "reranked" / night / "scores" / "*.parquet").rows()


def test_the_config_has_what_the_page_says() -> None:
    config = JobConfig.load(ROOT / "configs" / "nightly.yaml")
    folder = config.output.path.rpartition("/")[0]
    assert (config.reuse.source, config.report.compare_with) == (f"latest:{folder}", f"latest:{folder}")
    assert config.reuse.max_age_nights == 30
    assert f"`reuse.max_age_nights: {config.reuse.max_age_nights}`" in PAGE


def test_every_section_with_commands_is_tried() -> None:
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert {section for section in sections if commands(section)} == {
        "The first night",
        "The second night",
        "A bad night",
        "Another model",
        "Dead letters",
        "Deleting old nights",
    }


@pytest.mark.timeout(600)
def test_the_nights_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights = Nights(tmp_path)
    nights.go("The first night", groups())
    assert nights.scored_again("2026-11-20") == PAIRS
    nights.go("The second night", groups(changed="d7"))
    assert nights.scored_again("2026-11-21") == 1
    nights.go("A bad night", groups(shift=23))
    assert nights.states()["2026-11-22"] == "accepted"
    nights.go("Dead letters", groups(shift=23, missing=3), groups(shift=23))
    assert nights.states()["2026-11-23"] == "too_many_failed"
    assert nights.report("2026-11-23b")["reused"] == PAIRS
    assert rows(nights, "2026-11-23b") == rows(nights, "2026-11-22")
    nights.go("Another model")
    assert nights.scored_again("2026-11-24") == PAIRS
    assert verify_output(str(tmp_path / "reranked" / "2026-11-24")).is_sound
    capsys.readouterr()
    nights.go("Deleting old nights")
    said = capsys.readouterr().out
    for night in ("2026-11-20", "2026-11-21"):
        assert f"would delete {tmp_path}/reranked/{night}\n" in said
        assert f"deleted {tmp_path}/reranked/{night}\n" in said
    assert nights.states() == {
        "2026-11-22": "accepted",
        "2026-11-23": "too_many_failed",
        "2026-11-23b": "complete",
        "2026-11-24": "complete",
    }
