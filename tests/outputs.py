"""A finished output to be damaged, and what was right about it before."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import polars as pl
from engine import NAN, NanScorer, SmallJob
from tables import Group, nested_table, random_groups, write

from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.run_state import RunState

REASON = "2 dead letters are more than output.max_failed=0"


@dataclass(frozen=True)
class Output:
    """An output of its own, by default below `folder`."""

    folder: Path
    name: str = "out"

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def state(self) -> RunState:
        return RunState(Folder.at(str(self.path)))

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def is_marked(self) -> bool:
        return (self.path / "scores" / "_SUCCESS").exists()

    def parts(self, folder: str = "scores") -> list[Path]:
        return sorted((self.path / folder).glob("part-*"))

    def rows(self) -> list[dict[str, Any]]:
        return pl.read_parquet(self.path / "scores" / "part-*.parquet").to_dicts()

    def job(self, *, max_failed: int | str = "100%") -> SmallJob:
        return SmallJob(str(self.folder / "in"), str(self.path), unit_pairs=8, max_failed=max_failed)

    def resume(self, *, max_failed: int | str = "100%") -> None:
        """The command of the run once more."""
        self.job(max_failed=max_failed).run(NanScorer())


def groups() -> list[Group]:
    """Nine queries; some candidates have no score."""
    return [
        (
            query_id,
            query,
            [(d, f"{text} {NAN}" if at % 4 == 1 and d.endswith("-0") else text) for d, text in candidates],
        )
        for at, (query_id, query, candidates) in enumerate(random_groups(9, max_candidates=5, seed=3))
    ]


def finished(folder: Path, *, gated: bool = False) -> Output:
    """A copy of a finished output and its input in `folder`, or of one with more dead letters than it may have."""
    shutil.copytree(_made(gated), folder, dirs_exist_ok=True)
    return Output(folder)


@lru_cache(maxsize=2)
def _made(gated: bool) -> Path:
    output = Output(Path(mkdtemp(prefix="finished-output-")))
    atexit.register(shutil.rmtree, output.folder)
    write(nested_table(groups()), output.folder / "in" / "a.parquet", row_group_size=2)
    write(nested_table(random_groups(3, seed=4)), output.folder / "in" / "b.parquet", row_group_size=2)
    output.resume(max_failed=0 if gated else "100%")
    return output.folder
