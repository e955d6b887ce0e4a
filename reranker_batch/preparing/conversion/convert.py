"""Convert a table of any form to prepared input, in tasks whose parts stay where the conversion is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby

from reranker_batch.core.mapping import Caught, Mapper, raised
from reranker_batch.errors import InputError
from reranker_batch.preparing.conversion.record import VERSION, ConversionFolder, ConversionRecord
from reranker_batch.preparing.conversion.task import Convert, ConvertedPart, CountLines, Share, Task
from reranker_batch.preparing.stages import OnProgress, ignore
from reranker_batch.preparing.table.source import Source
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.tables.growth import unpacked_bytes
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
    cut = _tasks(source, record.piece_bytes, each)
    waiting = [task for task in cut if task.number not in done]
    num_done = len(cut) - len(waiting)
    on_progress("convert", num_done, len(cut))
    results = raised(each(Caught(Convert(source.adaption, folder.folder)), waiting))
    for task, parts in zip(waiting, results, strict=True):
        folder.write_task(task.number, parts)
        done[task.number] = parts
        num_done += 1
        on_progress("convert", num_done, len(cut))
    return iter([done[task.number] for task in cut])


def _tasks(source: Source, piece_bytes: int, each: Mapper) -> list[Task]:
    """Neighbouring pieces of about `piece_bytes`; all of a file where the rows of a query are neighbours."""
    shares = _shares(source, pieces(source.files, piece_bytes), each)
    if source.adaption.layout == "pairs":
        groups = [tuple(group) for _, group in groupby(shares, lambda share: share.source.files.files[0].path)]
    else:
        groups = [*_packed(shares, piece_bytes)]
    return [Task(number, group) for number, group in enumerate(groups)]


def _packed(shares: Sequence[Share], piece_bytes: int) -> Iterator[tuple[Share, ...]]:
    """Small files together, so that there are not as many parts as files."""
    group: list[Share] = []
    weight = 0
    for share in shares:
        of_file = unpacked_bytes(share.source.files)
        if group and weight + min(of_file, piece_bytes) > piece_bytes:
            yield tuple(group)
            group, weight = [], 0
        group.append(share)
        weight += min(of_file, piece_bytes)
    yield tuple(group)


def _shares(source: Source, cut: Sequence[Piece], each: Mapper) -> list[Share]:
    """Each piece with its file alone and the row or line at which it begins, where ids may be made of it."""
    files = source.files
    alone = [replace(source, files=replace(files, files=(file,), left_out={})) for file in files.files]
    shares = [Share(alone[piece.file_index], replace(piece, file_index=0)) for piece in cut]
    if source.adaption.layout == "pairs":
        return shares
    if files.form == "parquet":
        return [replace(share, first_row=share.piece.start) for share in shares]
    is_cut = {piece.file_index for piece in cut if piece.start}
    counted = [at for at, piece in enumerate(cut) if piece.file_index in is_cut]
    counts = raised(each(Caught(CountLines()), [shares[at] for at in counted]))
    lines = dict(zip(counted, counts, strict=True))
    row = 0
    for at, piece in enumerate(cut):
        row = row if piece.start else 0
        shares[at] = replace(shares[at], first_row=row)
        row += lines.get(at, 0)
    return shares
