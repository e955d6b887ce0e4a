"""The run's own folder: manifest, plan and report, and which units are done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.parts import DEAD_LETTERS, SCORES, STAGING, part_name

MANIFEST, PLAN, REPORT = "manifest.json", "plan.json", "report.json"
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class RunState:
    """Reads and writes `OUTPUT/run/` and the success marker."""

    output: Folder

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the run's folder, or None where it is not there.

        Raises:
            CommitError: It is there and is not what this program writes.
        """
        path = self.output.child("run", name)
        try:
            with self.output.filesystem.open_input_stream(path) as source:
                values = json.loads(source.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CommitError(f"{path} cannot be read: {error}. Use another output.path.") from None
        if not isinstance(values, dict):
            raise CommitError(f"{path} is not a record of this program. Use another output.path.")
        return values

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a JSON document in one step."""
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        staged = self.output.child(STAGING, name)
        with self.output.filesystem.open_output_stream(staged) as sink:
            sink.write(text.encode())
        self.output.filesystem.move(staged, self.output.child("run", name))

    def start(self) -> None:
        """Make the folders and drop what an interrupted attempt left aside.

        Raises:
            ConfigError: The folder holds files that are not ours.
        """
        if self.read(MANIFEST) is None and (foreign := self._names("")):
            raise ConfigError(
                f"output.path={self.output.uri} holds files that no run wrote, such as {sorted(foreign)[0]!r}. "
                "Use an empty or a new folder."
            )
        for folder in (SCORES, DEAD_LETTERS, STAGING):
            self.output.filesystem.create_dir(self.output.child(folder), recursive=True)
        self.output.filesystem.delete_dir_contents(self.output.child(STAGING))

    def recorded_units(self) -> list[WorkUnit] | None:
        """The units as they were cut when the run began."""
        plan = self.read(PLAN)
        return None if plan is None else [WorkUnit(**unit) for unit in plan["units"]]

    def published_units(self, units: Iterable[WorkUnit]) -> list[str]:
        """Ids of the units that have a part.

        Raises:
            CommitError: A file in `scores/` belongs to no unit of the plan.
        """
        unit_ids = {unit.unit_id for unit in units}
        if foreign := self.foreign_parts(unit_ids):
            raise CommitError(f"{self.output.child(SCORES, foreign[0])} belongs to no unit of this run. Move it away.")
        names = self._names(SCORES)
        return sorted(unit_id for unit_id in unit_ids if part_name(unit_id) in names)

    def foreign_parts(self, unit_ids: Iterable[str]) -> list[str]:
        """Names in `scores/` that are neither a unit's part nor the success marker."""
        known = {SUCCESS, *map(part_name, unit_ids)}
        return sorted(self._names(SCORES) - known)

    def _names(self, folder: str) -> set[str]:
        selector = pafs.FileSelector(self.output.child(folder) if folder else self.output.path, allow_not_found=True)
        return {info.base_name for info in self.output.filesystem.get_file_info(selector)}

    @property
    def is_complete(self) -> bool:
        info = self.output.filesystem.get_file_info(self.output.child(SCORES, SUCCESS))
        return bool(info.type == pafs.FileType.File)

    def complete(self) -> None:
        """Drop the staging folder, then mark the output as whole: the last thing a run writes."""
        self.output.filesystem.delete_dir(self.output.child(STAGING))
        with self.output.filesystem.open_output_stream(self.output.child(SCORES, SUCCESS)):
            pass
