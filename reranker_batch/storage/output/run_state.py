"""The run's own folder: manifest, plan, report and gate, and the success marker."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow.fs as pafs
from pydantic import TypeAdapter

from reranker_batch.core.report import PartEntry, RunReport, utc_time
from reranker_batch.core.units import WorkUnit, units_digest
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.printing import listed
from reranker_batch.storage.files.documents import REMEDY, WRITTEN_AGAIN, parsed, serialized, typed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.crash_points import Point, reached
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.parts import DEAD_LETTERS, MEMO, SCORES, STAGING, part_name
from reranker_batch.storage.output.plan_record import plan_problems, units_of

logger = logging.getLogger(__name__)

MANIFEST, PLAN, REPORT, GATED, REUSE = "manifest.json", "plan.json", "report.json", "gated.json", "reuse.json"
DELETING = "deleting.json"
"""Says that the output is being deleted."""
PAGE = "report.html"
INPUT = "input"
"""A folder with the input, where this run has prepared it for itself."""
SUCCESS = "_SUCCESS"
_PARTS = (SCORES, DEAD_LETTERS, MEMO)
_REQUIRED = {
    MANIFEST: {"fingerprint", "scoring_fingerprint", "settings", "input", "units_digest"},
    PLAN: {"units"},
    REPORT: {"status", "exit_code", "totals", "parts", "finished_at"},
    GATED: {"exit_code", "reasons", "accepted", "numbers"},
    DELETING: {"begun_at"},
}
_WRITTEN: dict[str, Point] = {
    MANIFEST: "manifest_written",
    PLAN: "plan_written",
    REPORT: "report_written",
    GATED: "gate_written",
    DELETING: "deletion_marked",
    REUSE: "reuse_written",
}
_RUN_REPORT = TypeAdapter(RunReport)

Result = TypeVar("Result")


@dataclass(frozen=True)
class RunState:
    """Reads and writes `OUTPUT/run/` and the success marker."""

    output: Folder

    def path_of(self, name: str) -> str:
        return self.output.child("run", name)

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the run's folder, or None where it is not there.

        Raises:
            CommitError: It is there and is not what this program writes.
        """
        path = self.path_of(name)
        try:
            values = parsed(retried(lambda: self._content(path), f"Reading {path}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                return None  # nothing can be there; who takes the lock says so
            raise CommitError(f"{path} cannot be read: {error}. {remedy_of(name)}") from error
        if not isinstance(values, dict) or not _REQUIRED.get(name, set()) <= values.keys():
            raise CommitError(f"{path} is not a record of this program. {remedy_of(name)}")
        if name == MANIFEST:
            Manifest.of(values, path)
        return values

    def _content(self, path: str) -> bytes:
        with self.output.filesystem.open_input_stream(path) as source:
            return bytes(source.read())

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a JSON document in one step.

        Raises:
            CommitError: It cannot be written.
        """
        self.write_content(name, serialized(values))
        if name in _WRITTEN:
            reached(_WRITTEN[name])

    def content(self, name: str) -> bytes | None:
        """A file of the run's folder, None where it is not there or cannot be read."""
        try:
            return self._content(self.path_of(name))
        except OSError:
            return None

    def write_content(self, name: str, content: bytes) -> None:
        """Replace a file in one step.

        Raises:
            CommitError: It cannot be written.
        """
        path = self.path_of(name)
        try:
            retried(lambda: self._replace(name, content), f"Writing {path}")
        except OSError as error:
            raise CommitError(f"{path} cannot be written: {error}") from error

    def _replace(self, name: str, content: bytes) -> None:
        filesystem, staged = self.output.filesystem, self.output.child(STAGING, name)
        filesystem.create_dir(self.output.child(STAGING), recursive=True)
        try:
            with filesystem.open_output_stream(staged) as sink:
                sink.write(content)
            filesystem.move(staged, self.path_of(name))
        except OSError:
            with suppress(OSError):  # it takes space that may be what is missing
                filesystem.delete_file(staged)
            raise

    def remove(self, name: str) -> None:
        """Delete a JSON document if it is there. Raises CommitError when it cannot be deleted."""
        self._delete(self.path_of(name))

    def start(self, remaining: Iterable[WorkUnit] = ()) -> None:
        """Make the folders and drop what an interrupted attempt left: staged files, and dead letters and memos of
        `remaining`.

        With units to be done the output is not complete: the success marker is withdrawn, and a report that lists one
        of them goes too, since the new parts may have other bytes.

        Raises:
            ConfigError: The folder holds files that are not ours.
            CommitError: The folder cannot be written.
        """
        self.refuse_foreign()
        self._tried(self._sweep, "written")
        unit_ids = [unit.unit_id for unit in remaining]
        if not unit_ids:
            return
        self.withdraw()
        if self.reported_parts().keys() & set(unit_ids):
            self.remove(REPORT)
        for folder in (DEAD_LETTERS, MEMO):
            for name in self._names(folder) & set(map(part_name, unit_ids)):
                self._delete(self.output.child(folder, name))

    def refuse_foreign(self) -> None:
        """Raises ConfigError where no run has begun and the folder holds files that are not ours."""
        if self.read(MANIFEST) is None and (foreign := self._foreign_names()):
            raise ConfigError(
                f"output.path={self.output.uri} holds files that no run wrote, such as {foreign[0]!r}. "
                "Use an empty or a new folder."
            )

    def _sweep(self) -> None:
        for folder in (*_PARTS, STAGING):
            self.output.filesystem.create_dir(self.output.child(folder), recursive=True)
        self.output.filesystem.delete_dir_contents(self.output.child(STAGING))

    def _foreign_names(self) -> list[str]:
        """The lock is there before anything else is."""
        in_run = {
            name for name in self._names("run") if not name.startswith("lock.") and name not in ("staging", INPUT)
        }
        return sorted((self._names("") - {"run", *_PARTS}) | {f"run/{name}" for name in in_run}) or sorted(
            f"{folder}/{name}" for folder in _PARTS for name in self._names(folder)
        )

    def record(self, manifest: Mapping[str, Any], units: Sequence[WorkUnit]) -> None:
        """Write manifest and plan of a run that begins. A plan that is there stays as it is, with its manifest.

        The manifest gets the digest of the units, so that a plan that was changed or swapped is noticed.

        Raises:
            CommitError: They cannot be written.
        """
        if self.read(PLAN) is None:
            self.write(MANIFEST, {**manifest, "units_digest": units_digest(units)})
            self._write_plan(units)

    def _write_plan(self, units: Sequence[WorkUnit]) -> None:
        self.write(PLAN, {"units": [unit.to_dict() for unit in units]})

    def units(self, planned: Sequence[WorkUnit]) -> list[WorkUnit]:
        """The units of this run: as they were cut when it began, or as `planned` where it begins now.

        A plan that is gone is written again, if there are parts and `planned` is what it was.

        Raises:
            CommitError: The plan is not that of the manifest, or it is gone and the parts are of other units.
        """
        if (recorded := self.recorded_units()) is not None:
            return recorded
        manifest = self.read(MANIFEST)
        if manifest is not None and self.part_names():
            if manifest["units_digest"] != units_digest(planned):
                raise CommitError(
                    f"{self.path_of(PLAN)} is missing, and the input is now cut into other units than those of the "
                    f"parts in {SCORES}/. {REMEDY}"
                )
            self._write_plan(planned)
            self.close()
        return list(planned)

    def recorded_units(self) -> list[WorkUnit] | None:
        """The units as they were cut when the run began, None where no run has begun.

        Raises:
            CommitError: The plan is not the one that the manifest records, or the two do not fit together.
        """
        manifest, units = self.read(MANIFEST), self.read_units()
        if manifest is None or units is None:
            return None
        if problems := plan_problems(manifest, units):
            raise CommitError(
                f"{self.path_of(PLAN)} is not the plan of this run. {listed(problems, most=3, separator=' ')} {REMEDY}"
            )
        return units

    def read_units(self) -> list[WorkUnit] | None:
        """The units of the plan, not compared with the manifest.

        Raises:
            CommitError: The plan holds what this program would not write, such as a path that leads elsewhere.
        """
        plan, path = self.read(PLAN), self.path_of(PLAN)
        if plan is None:
            return None
        return units_of(plan["units"], path)

    def report(self) -> RunReport | None:
        """The report of the last attempt, None where there is none.

        Raises:
            CommitError: It is there and is no report of this program.
        """
        values, path = self.read(REPORT), self.path_of(REPORT)
        if values is None:
            return None
        report = typed(_RUN_REPORT, values, path, remedy=WRITTEN_AGAIN)
        _check_time(report.finished_at, path)
        if values["exit_code"] != report.exit_code or not 0 <= report.units_skipped <= report.units_published:
            raise CommitError(f"{path} contradicts itself about its exit code or its units. {WRITTEN_AGAIN}")
        return report

    def reported_parts(self) -> dict[str, PartEntry]:
        """Parts by unit as the report of an earlier attempt lists them; empty where no report can be read."""
        try:
            report = self.report()
        except CommitError as error:
            logger.warning("%s Published parts are not compared with it.", error)
            return {}
        return {} if report is None else {entry.unit_id: entry for entry in report.parts}

    def part_names(self) -> set[str]:
        """Names in `scores/` but for the success marker."""
        return self._names(SCORES) - {SUCCESS}

    def dead_letter_names(self) -> set[str]:
        return self._names(DEAD_LETTERS)

    def memo_names(self) -> set[str]:
        return self._names(MEMO)

    @property
    def has_lock_files(self) -> bool:
        """Whether a run is at work on this output or was killed."""
        return any(name.startswith("lock.") for name in self._names("run"))

    def _names(self, folder: str) -> set[str]:
        selector = pafs.FileSelector(self.output.child(folder) if folder else self.output.path, allow_not_found=True)
        infos = self._tried(lambda: self.output.filesystem.get_file_info(selector), "listed")
        return {info.base_name for info in infos}

    @property
    def is_complete(self) -> bool:
        path = self.output.child(SCORES, SUCCESS)
        info = self._tried(lambda: self.output.filesystem.get_file_info(path), "read")
        return bool(info.type == pafs.FileType.File)

    def withdraw(self) -> None:
        """Drop the success marker if it is there. Raises CommitError when it cannot be dropped."""
        self._delete(self.output.child(SCORES, SUCCESS))

    def complete(self) -> None:
        """Drop the staging folder, then mark the output as whole: the last thing a run writes.

        Raises:
            CommitError: It cannot be marked.
        """
        path = self.output.child(SCORES, SUCCESS)
        self.close()
        self._tried(lambda: self.output.filesystem.open_output_stream(path).close(), "marked as complete")
        reached("success_written")

    def close(self) -> None:
        """Drop the staging folder of a run that has ended, without the success marker.

        Raises:
            CommitError: It cannot be dropped.
        """
        self._tried(self._drop_staging, "written")

    def _drop_staging(self) -> None:
        with suppress(FileNotFoundError):
            self.output.filesystem.delete_dir(self.output.child(STAGING))

    def _delete(self, path: str) -> None:
        def delete() -> None:
            with suppress(FileNotFoundError):
                self.output.filesystem.delete_file(path)

        self._tried(delete, "written")

    def _tried(self, call: Callable[[], Result], done: str) -> Result:
        """Call, again where a failure can pass. Raises ConfigError or CommitError for what cannot."""
        try:
            return retried(call, f"Using {self.output.uri}")
        except NotADirectoryError:
            raise ConfigError(f"{self.output.uri} is not a folder.") from None
        except OSError as error:
            raise CommitError(f"{self.output.uri} cannot be {done}: {error}") from error


def _check_time(text: str, path: str) -> None:
    try:
        utc_time(text)
    except ValueError:
        raise CommitError(
            f"{path} is not a record of this program: finished_at: {text[:100]!r}. {WRITTEN_AGAIN}"
        ) from None


def remedy_of(name: str) -> str:
    """What to do about a document that cannot be used."""
    return WRITTEN_AGAIN if name in (REPORT, GATED) else REMEDY
