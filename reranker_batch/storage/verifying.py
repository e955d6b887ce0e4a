"""Proof of a finished output from its own record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.report import PartEntry, totals_of
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.parts import DEAD_LETTERS, SCORES, PublishedPart, part_name, read_part, read_table
from reranker_batch.storage.run_state import MANIFEST, REPORT, RunState

_RESULT_COLUMNS = ["index", "rank", "relevance_score", "logit"]


@dataclass(frozen=True)
class Verification:
    """What was looked at and every contradiction found."""

    parts: int
    rows: int
    dead_letters: int
    problems: list[str]

    @property
    def is_sound(self) -> bool:
        return not self.problems


def verify_output(path: str) -> Verification:
    """Read every part again and hold it against the plan, the manifest, the report and the rules of ranking.

    Raises:
        ConfigError: There is no output of a run at this place.
    """
    state = RunState(Folder.at(path))
    manifest, report, units = state.read(MANIFEST), state.read(REPORT), state.read_units()
    if manifest is None or units is None:
        raise ConfigError(f"{path} holds no run: run/manifest.json or run/plan.json is not there.")
    if report is None or not state.is_complete:
        return Verification(0, 0, 0, ["scores/_SUCCESS or run/report.json is not there: the run is not complete."])
    unit_ids = {unit.unit_id for unit in units}
    entries = _entries(report, state)
    problems = _foreign_files(state, unit_ids)
    problems += [f"The report lists {name!r}, no unit of the plan." for name in sorted(entries.keys() - unit_ids)]
    check = _PartCheck(state.output, manifest, entries, state.dead_letter_names())
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(check, [unit.unit_id for unit in units]))
    parts = [part for part, _ in found if part is not None]
    problems += [problem for _, problems_of_part in found for problem in problems_of_part]
    problems += _total_problems(parts, report)
    return Verification(
        parts=len(parts),
        rows=sum(part.num_rows for part in parts),
        dead_letters=totals_of(part.record.counts for part in parts).num_failed,
        problems=problems,
    )


def _entries(report: Mapping[str, Any], state: RunState) -> dict[str, PartEntry]:
    """The report's word on each part. Raises CommitError when it is no report of this program."""
    try:
        return {entry["unit_id"]: PartEntry(**entry) for entry in report["parts"]}
    except TypeError:
        path = state.output.child("run", REPORT)
        raise CommitError(f"{path} is not a report of this program: its parts are not.") from None


def _foreign_files(state: RunState, unit_ids: set[str]) -> list[str]:
    return [f"{name} belongs to no unit of the plan." for name in state.foreign_files(unit_ids)]


@dataclass(frozen=True)
class _PartCheck:
    output: Folder
    manifest: Mapping[str, Any]
    entries: Mapping[str, PartEntry]
    letters: set[str]

    def __call__(self, unit_id: str) -> tuple[PublishedPart | None, list[str]]:
        try:
            part = read_part(self.output, unit_id)
        except CommitError as error:
            return None, [str(error)]
        return part, [f"scores/part-{unit_id}.parquet: {problem}" for problem in self._problems(part, unit_id)]

    def _problems(self, part: PublishedPart, unit_id: str) -> Iterator[str]:
        record, entry = part.record, self.entries.get(unit_id)
        if record.fingerprint != self.manifest["fingerprint"]:
            yield "it was made by other settings than the manifest's"
        if entry is None:
            yield "the report does not list it"
        elif (part.sha256, part.size_bytes, part.num_rows) != (
            entry.sha256,
            entry.size_bytes,
            entry.num_rows,
        ):
            yield "its bytes are not those that were published"
        yield from self._row_problems(part)
        yield from self._dead_letter_problems(part)

    def _row_problems(self, part: PublishedPart) -> Iterator[str]:
        table = read_table(self.output, SCORES, part.record.unit_id)
        results = _results_of(table)
        counts, top_n = part.record.counts, self.manifest["settings"]["ranking"]["top_n"]
        if len(results["rank"]) != counts["kept"]:
            yield f"{len(results['rank'])} candidates, its record says {counts['kept']}"
        if "results" in table.column_names and len(table) != counts["queries"]:
            yield f"{len(table)} queries, its record says {counts['queries']}"
        if counts["scored"] + sum(counts["dead_letters"].values()) != counts["candidates"]:
            yield "scored and dead-lettered candidates are not all candidates"
        yield from _ranking_problems(results, top_n)

    def _dead_letter_problems(self, part: PublishedPart) -> Iterator[str]:
        expected = sum(part.record.counts["dead_letters"].values())
        if not expected:
            if (name := part_name(part.record.unit_id)) in self.letters:
                yield f"dead_letters/{name} is there, and its record knows of none"
            return
        try:
            found = len(read_table(self.output, DEAD_LETTERS, part.record.unit_id))
        except (OSError, pa.ArrowInvalid) as error:
            yield f"its dead letters cannot be read: {error}"
            return
        if found != expected:
            yield f"{found} dead letters, its record says {expected}"


def _results_of(table: pa.Table) -> dict[str, Any]:
    """Result columns as numpy arrays of shape [kept candidates], and the query each belongs to."""
    if "results" not in table.column_names:
        query_ids = table["query_id"].combine_chunks().dictionary_encode()
        codes = query_ids.indices.to_numpy() if len(table) else np.empty(0, dtype=np.int32)
        return {name: table[name].to_numpy() for name in _RESULT_COLUMNS} | {"query": codes}
    lists = table["results"].combine_chunks()
    results = {name: pc.struct_field(pc.list_flatten(lists), name).to_numpy() for name in _RESULT_COLUMNS}
    return results | {"query": pc.list_parent_indices(lists).to_numpy()}


def _ranking_problems(results: Mapping[str, Any], top_n: int | None) -> Iterator[str]:
    rank, logit, score = results["rank"], results["logit"], results["relevance_score"]
    if not np.isfinite(logit).all() or not ((score >= 0) & (score <= 1)).all():
        yield "a score is not finite or not within 0..1"
    if top_n is not None and len(rank) and rank.max() > top_n:
        yield f"rank {rank.max()} is beyond top_n={top_n}"
    follows = rank[1:] != 1
    if (len(rank) and rank[0] != 1) or not (rank[1:][follows] == rank[:-1][follows] + 1).all():
        yield "ranks of a query are not 1..n"
    if not (results["query"][1:][follows] == results["query"][:-1][follows]).all():
        yield "rows of a query do not stand together"
    is_ordered = (logit[1:] < logit[:-1]) | ((logit[1:] == logit[:-1]) & (results["index"][1:] > results["index"][:-1]))
    if not (is_ordered & (score[1:] <= score[:-1]))[follows].all():
        yield "candidates are not ordered by score, ties by index"


def _total_problems(parts: list[PublishedPart], report: Mapping[str, Any]) -> list[str]:
    totals = totals_of(part.record.counts for part in parts)
    found = {name: value for name, value in vars(totals).items() if name != "dead_letters"}
    found["dead_letters"] = dict(totals.dead_letters)
    return [
        f"{name}: the parts add up to {value}, the report says {report['totals'].get(name)}"
        for name, value in found.items()
        if value != report["totals"].get(name)
    ]
