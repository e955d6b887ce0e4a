"""The run's own folder: manifest, plan and report, and which units are done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.crash_points import Point, reached
from reranker_batch.storage.filesystem import Folder, is_inside
from reranker_batch.storage.parts import DEAD_LETTERS, SCORES, STAGING, part_name
from reranker_batch.storage.retrying import retried

MANIFEST, PLAN, REPORT = "manifest.json", "plan.json", "report.json"
SUCCESS = "_SUCCESS"
_REQUIRED = {MANIFEST: {"fingerprint", "settings", "input"}, PLAN: {"units"}, REPORT: {"status", "totals", "parts"}}
_WRITTEN: dict[str, Point] = {MANIFEST: "manifest_written", PLAN: "plan_written", REPORT: "report_written"}


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
            values = json.loads(retried(lambda: self._content(path), f"Reading {path}"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CommitError(f"{path} cannot be read: {error}. {_REMEDY}") from error
        if not isinstance(values, dict) or not _REQUIRED.get(name, set()) <= values.keys():
            raise CommitError(f"{path} is not a record of this program. {_REMEDY}")
        if name == MANIFEST and fingerprint(values["settings"]) != values["fingerprint"]:
            raise CommitError(f"{path} has been changed: its settings are not those of its fingerprint. {_REMEDY}")
        return values

    def _content(self, path: str) -> bytes:
        with self.output.filesystem.open_input_stream(path) as source:
            return bytes(source.read())

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a JSON document in one step.

        Raises:
            CommitError: It cannot be written.
        """
        content = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
        path = self.output.child("run", name)
        try:
            retried(lambda: self._replace(name, content), f"Writing {path}")
        except OSError as error:
            raise CommitError(f"{path} cannot be written: {error}") from error
        if name in _WRITTEN:
            reached(_WRITTEN[name])

    def _replace(self, name: str, content: bytes) -> None:
        staged = self.output.child(STAGING, name)
        try:
            with self.output.filesystem.open_output_stream(staged) as sink:
                sink.write(content)
            self.output.filesystem.move(staged, self.output.child("run", name))
        except OSError:
            with suppress(OSError):  # it takes space that may be what is missing
                self.output.filesystem.delete_file(staged)
            raise

    def start(self, remaining: Iterable[WorkUnit] = ()) -> None:
        """Make the folders, drop what an interrupted attempt left aside and the dead letters of units to be done.

        Raises:
            ConfigError: The folder holds files that are not ours.
            CommitError: The folder cannot be written.
        """
        if self.read(MANIFEST) is None and (foreign := self._foreign_names()):
            raise ConfigError(
                f"output.path={self.output.uri} holds files that no run wrote, such as {foreign[0]!r}. "
                "Use an empty or a new folder."
            )
        try:
            retried(self._sweep, f"Cleaning {self.output.uri}")
        except OSError as error:
            raise CommitError(f"{self.output.uri} cannot be written: {error}") from error
        orphaned = self._names(DEAD_LETTERS) & {part_name(unit.unit_id) for unit in remaining}
        for name in orphaned:
            self.output.filesystem.delete_file(self.output.child(DEAD_LETTERS, name))

    def _sweep(self) -> None:
        for folder in (SCORES, DEAD_LETTERS, STAGING):
            self.output.filesystem.create_dir(self.output.child(folder), recursive=True)
        self.output.filesystem.delete_dir_contents(self.output.child(STAGING))

    def _foreign_names(self) -> list[str]:
        """The lock is there before anything else is."""
        in_run = {name for name in self._names("run") if not name.startswith("lock.") and name != "staging"}
        return sorted((self._names("") - {"run", SCORES, DEAD_LETTERS}) | {f"run/{name}" for name in in_run}) or sorted(
            f"{folder}/{name}" for folder in (SCORES, DEAD_LETTERS) for name in self._names(folder)
        )

    def recorded_units(self) -> list[WorkUnit] | None:
        """The units as they were cut when the run began.

        Raises:
            CommitError: The plan holds what this program would not write, such as a path that leads elsewhere.
        """
        plan = self.read(PLAN)
        return None if plan is None else [_unit_of(values, self.output.child("run", PLAN)) for values in plan["units"]]

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

    def dead_letter_names(self) -> set[str]:
        return self._names(DEAD_LETTERS)

    def _names(self, folder: str) -> set[str]:
        selector = pafs.FileSelector(self.output.child(folder) if folder else self.output.path, allow_not_found=True)
        return {info.base_name for info in self.output.filesystem.get_file_info(selector)}

    @property
    def is_complete(self) -> bool:
        info = self.output.filesystem.get_file_info(self.output.child(SCORES, SUCCESS))
        return bool(info.type == pafs.FileType.File)

    def complete(self) -> None:
        """Drop the staging folder, then mark the output as whole: the last thing a run writes.

        Raises:
            CommitError: It cannot be marked.
        """
        path = self.output.child(SCORES, SUCCESS)
        try:
            retried(self._drop_staging, f"Cleaning {self.output.uri}")
            retried(lambda: self.output.filesystem.open_output_stream(path).close(), f"Writing {path}")
        except OSError as error:
            raise CommitError(f"{path} cannot be written: {error}") from error
        reached("success_written")

    def _drop_staging(self) -> None:
        with suppress(FileNotFoundError):
            self.output.filesystem.delete_dir(self.output.child(STAGING))


_REMEDY = "Put the original back, or use another output.path."


def _unit_of(values: Any, path: str) -> WorkUnit:
    try:
        unit = WorkUnit.from_dict(values)
    except ValueError:
        unit = None
    if unit is None or not is_inside(unit.file):
        raise CommitError(f"{path} holds a unit that no run wrote: {str(values)[:200]}. {_REMEDY}")
    return unit
