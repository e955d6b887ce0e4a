"""Convert a table of any form to prepared input, in tasks whose parts stay where the conversion is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from reranker_batch.core.mapping import Caught, Mapper, raised
from reranker_batch.errors import InputError
from reranker_batch.preparing.conversion_record import VERSION, ConversionFolder, ConversionRecord
from reranker_batch.preparing.converting import Convert, ConvertedPart, CountLines, Task
from reranker_batch.preparing.source import Source
from reranker_batch.preparing.stages import OnProgress, ignore
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.tables.pieces import PIECE_BYTES, Piece, pieces


def convert(
    source: Source, goal: str, each: Mapper, on_progress: OnProgress = ignore, *, piece_bytes: int = PIECE_BYTES
) -> ConversionRecord:
    """Write prepared input to the folder `goal`, or finish what was begun there; what is complete is left as it is.

    The same source and settings give the same bytes, wherever an earlier attempt ended.

    Raises:
        InputError: A row of the source cannot be used. Names file and row.
        FingerprintError: The folder was converted from other files or with other settings.
        CommitError: A file cannot be written, or is not what the record says.
    """
    folder = ConversionFolder(Folder.at(goal))
    record = folder.begin(_asked(source, piece_bytes))
    if record.parts is not None:
        folder.check(record)
        return record
    try:
        parts = [part for done in _converted(source, folder, record, each, on_progress) for part in done]
    except InputError:
        folder.refuse(record)
        raise
    return folder.complete(record, parts)


def _asked(source: Source, piece_bytes: int) -> ConversionRecord:
    files = source.files
    settings = {"form": files.form, "has_header": files.has_header, **plain_settings(asdict(source.adaption))}
    return ConversionRecord(VERSION, settings, files.identity(), piece_bytes)


def plain_settings(value: object) -> dict[str, object]:
    """As JSON reads it back."""
    assert isinstance(value, dict)
    return {key: _listed(item) for key, item in value.items()}


def _listed(value: object) -> object:
    if isinstance(value, dict):
        return plain_settings(value)
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _converted(
    source: Source, folder: ConversionFolder, record: ConversionRecord, each: Mapper, on_progress: OnProgress
) -> Iterator[list[ConvertedPart]]:
    """The parts of all tasks, in the order of the source."""
    done = folder.tasks_done()
    cut = _tasks(source, pieces(source.files, record.piece_bytes), each)
    waiting = [task for task in cut if task.number not in done]
    num_done = len(cut) - len(waiting)
    on_progress("convert", num_done, len(cut))
    results = raised(each(Caught(Convert(source, folder.folder)), waiting))
    for task, parts in zip(waiting, results, strict=True):
        folder.write_task(task.number, parts)
        done[task.number] = parts
        num_done += 1
        on_progress("convert", num_done, len(cut))
    return iter([done[task.number] for task in cut])


def _tasks(source: Source, cut: Sequence[Piece], each: Mapper) -> list[Task]:
    """A task for each piece; for each file where the rows of a query are neighbours, which pieces would part."""
    first_rows = _first_rows(source, cut, each)
    if source.adaption.layout == "nested":
        return [Task(number, (piece,), (first_rows[number],)) for number, piece in enumerate(cut)]
    files = [[number for number, _ in group] for _, group in groupby(enumerate(cut), lambda one: one[1].file_index)]
    return [
        Task(number, tuple(cut[at] for at in places), tuple(first_rows[at] for at in places))
        for number, places in enumerate(files)
    ]


def _first_rows(source: Source, cut: Sequence[Piece], each: Mapper) -> list[int]:
    """The row or line of its file at which each piece begins, where ids may be made of it."""
    if source.files.form == "parquet" or source.adaption.layout == "pairs":
        return [piece.start if source.files.form == "parquet" else 0 for piece in cut]
    is_cut = {piece.file_index for piece in cut if piece.start}
    counted = [piece for piece in cut if piece.file_index in is_cut]
    lines = dict(zip(counted, raised(each(Caught(CountLines(source)), counted)), strict=True))
    first_rows, row = [], 0
    for piece in cut:
        row = row if piece.start else 0
        first_rows.append(row)
        row += lines.get(piece, 0)
    return first_rows
