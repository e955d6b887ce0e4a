"""Write dead letters as a new input, with the place of each in the first run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from reranker_batch.config import InputConfig, Reading
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.filesystem import Folder, absolute
from reranker_batch.storage.files.places import is_within
from reranker_batch.storage.input.layout import layout_of
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.input.reading import marked
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.parts import DEAD_LETTERS, part_name, read_table
from reranker_batch.storage.output.run_state import RunState
from reranker_batch.storage.output.verifying import Record, verify_output

PLACES = "_places.parquet"
"""Lies with the input files; its name keeps it from being read as one."""
_UNIT_PAIRS = 1 << 20
_JOINED_OVERRIDES = ("prepare.run=null", "input.format=auto")


@dataclass(frozen=True)
class Redriven:
    """The new input."""

    reasons: Counter[str]
    has_unique_places: bool
    """Whether query id and index tell the candidates of the new input apart, which merging relies on."""
    overrides: tuple[str, ...] = ()
    """What the config of the first run needs besides the new paths, so that it reads the new input."""

    @property
    def num_candidates(self) -> int:
        return self.reasons.total()


def redrive_output(output: str, target: str) -> Redriven:
    """Write the dead letters of a finished run to the folder `target`, in the layout of the run's own input.

    The refused candidates of a query become one query again, whole rows stay whole. `_places.parquet` says for each
    candidate by its new `query_id` and `index` which query id, document id and index it had: `was`.

    Raises:
        ConfigError: There is no finished run, or `target` cannot be used.
        CommitError: The output is not what its record says.
    """
    state, goal = RunState(Folder.at(output)), Folder.at(target)
    manifest, units = _finished_run(state, output)
    config, reading = manifest.config.input, manifest.reading
    _refuse_places(goal, target, output=output, input_path=config.path)
    dead_letters = {part_name(unit.unit_id): _dead_letters(state, unit) for unit in units}
    if not dead_letters:
        return Redriven(Counter(), True)
    _made(goal)
    for name, table in dead_letters.items():
        _write(goal, name, marked(_input_rows(table, reading, name), reading.prepared))
    places = _places(goal, config, dead_letters)
    _write(goal, PLACES, places)
    keys = set(zip(places["query_id"].to_pylist(), places["index"].to_pylist(), strict=True))
    overrides = _JOINED_OVERRIDES if _is_joined(manifest) else ()
    return Redriven(Counter(places["reason_code"].to_pylist()), len(keys) == len(places), overrides)


def _is_joined(manifest: Manifest) -> bool:
    """Whether the input was made by `prepare`, so that the config names tables and not the input."""
    return manifest.reading.prepared == "reference" or manifest.config.prepare.run.path is not None


def _finished_run(state: RunState, output: str) -> tuple[Manifest, list[WorkUnit]]:
    """What the run recorded, and the units that have dead letters. A gated output may be redriven too."""
    record = Record.read(state)
    if record is None:
        raise ConfigError(f"{output} holds no run: run/manifest.json or run/plan.json is not there.")
    if not record.is_finished(is_marked=state.is_complete):
        raise ConfigError(f"{output} holds a run that has not finished. Finish it first: the same command resumes it.")
    if record.manifest.is_listwise:
        raise ConfigError(
            f"{output} has scores of a listwise model, which reads all documents of a request together: its dead "
            "letters have no scores of their own. Repair the input and run the whole job again with a new output.path."
        )
    if problems := verify_output(output).problems:
        raise CommitError(
            f"{output} is not what its record says, so nothing is taken from it: {problems[0]} "
            "`reranker-batch verify` lists all; the run's own command repairs parts and dead letters."
        )
    names = state.dead_letter_names()
    return record.manifest, [unit for unit in record.units if part_name(unit.unit_id) in names]


def _refuse_places(goal: Folder, target: str, *, output: str, input_path: str) -> None:
    """Raises ConfigError for a target that is no new folder, or that the first run would read or refuse."""
    try:
        info = goal.filesystem.get_file_info(goal.path)
        selector = pafs.FileSelector(goal.path, allow_not_found=True)
        is_taken = info.is_file or bool(goal.filesystem.get_file_info(selector))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{target} cannot be used: {error}") from error
    if is_taken:
        raise ConfigError(f"{target} is not empty. Give a new folder for the input of the second run.")
    for place, what in ((Folder.at(output).uri, "the output"), (absolute(input_path.partition("**")[0]), "the input")):
        if is_within(goal.uri, place):
            raise ConfigError(f"{target} lies in {what}, {place}. Give a folder of its own.")


def _made(goal: Folder) -> None:
    try:
        goal.filesystem.create_dir(goal.path, recursive=True)
    except OSError as error:
        raise ConfigError(f"{goal.uri} cannot be used: {error}") from error


def _dead_letters(state: RunState, unit: WorkUnit) -> pa.Table:
    """In the order of the input."""
    table = read_table(state.output, DEAD_LETTERS, unit.unit_id)
    files = pc.index_in(table["file"], pa.array([span.file for span in unit.spans], pa.string()))
    places = table.select(["row", "index"]).append_column("file", files)
    return table.take(pc.sort_indices(places, sort_keys=[(name, "ascending") for name in ("file", "row", "index")]))


def _input_rows(dead_letters: pa.Table, reading: Reading, file: str) -> pa.Table:
    """The input rows of the dead letters; dead letters of the same row are joined into one row."""
    whole = dead_letters.filter(pc.is_valid(dead_letters["input"]))
    rows = pa.Table.from_struct_array(whole["input"].combine_chunks())
    layout = layout_of(reading)
    if not layout.is_row_a_query:
        return rows
    starts = np.flatnonzero(_differs_from_before(whole["row"]) | _differs_from_before(whole["file"]))
    lists = layout.lists(layout.inspect(rows.schema, file).shape)
    columns = [
        _joined(rows[field.name].combine_chunks(), starts)
        if field.name in lists and not pa.types.is_null(field.type)
        else rows[field.name].take(pa.array(starts))
        for field in rows.schema
    ]
    return pa.table(columns, names=rows.schema.names)


def _differs_from_before(values: pa.ChunkedArray) -> BoolArray:
    codes = pc.rank(values, tiebreaker="dense").to_numpy()
    return np.append([True], codes[1:] != codes[:-1])


def _joined(lists: pa.ListArray, starts: LongArray) -> pa.Array:
    """Join the neighbouring lists of each row; these are all null, or none is."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    offsets = np.append(ends[:-1][starts], ends[-1])
    mask = lists.is_null().take(pa.array(starts))
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pc.list_flatten(lists), mask=mask)


def _places(goal: Folder, config: InputConfig, dead_letters: dict[str, pa.Table]) -> pa.Table:
    """The ids that a run will give the candidates of the new input, with those of the first run."""
    again = config.model_copy(update={"path": goal.uri, "skip_bad_files": False})
    plan = plan_input(again, unit_pairs=_UNIT_PAIRS)
    seen: dict[str, list[pa.Table]] = {name: [] for name in dead_letters}
    for unit in plan.units:
        unit_candidates = plan.source.read_whole(unit).candidates
        query_ids = unit_candidates.queries["query_id"].take(unit_candidates.candidates["query_at"])
        named = pa.table({"query_id": query_ids, "index": unit_candidates.candidates["index"]})
        bounds = np.searchsorted(unit_candidates.candidates["row"].to_numpy(), unit.offsets)
        for span, (start, stop) in zip(unit.spans, pairwise(bounds.tolist()), strict=True):
            seen[span.file].append(named.slice(start, stop - start))
    return pa.concat_tables(
        _place_table(pa.concat_tables(seen[name]), table, name) for name, table in dead_letters.items()
    )


def _place_table(named: pa.Table, dead_letters: pa.Table, file: str) -> pa.Table:
    if len(named) != len(dead_letters):
        raise CommitError(f"{len(dead_letters)} dead letters became {len(named)} candidates in {file}.")
    was = [dead_letters[name].combine_chunks() for name in ("query_id", "doc_id", "index")]
    return (
        pa.table({"query_id": named["query_id"].cast(pa.string()), "index": named["index"]})
        .append_column("was", pa.StructArray.from_arrays(was, ["query_id", "doc_id", "index"]))
        .append_column("file", dead_letters["file"])
        .append_column("row", dead_letters["row"])
        .append_column("reason_code", dead_letters["reason_code"])
    )


def _write(folder: Folder, name: str, table: pa.Table) -> None:
    path = folder.child(name)
    try:
        with folder.filesystem.open_output_stream(path) as sink:
            pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    except OSError as error:
        raise CommitError(f"{path} cannot be written: {error}") from error
