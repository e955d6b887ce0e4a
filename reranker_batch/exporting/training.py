"""Training sets: a folder of shards with rows, shards with their ids, a card and a record."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from reranker_batch.errors import ConfigError, InputError
from reranker_batch.exporting.formats import Exported, Format, Options
from reranker_batch.exporting.labels import FinishedLabels
from reranker_batch.exporting.training_card import card_of
from reranker_batch.labels.examples import Examples
from reranker_batch.labels.exports import jsonl
from reranker_batch.labels.exports import sentence_transformers as st
from reranker_batch.labels.exports.shards import Shape, Shard
from reranker_batch.schema import output_field
from reranker_batch.storage.files.documents import parsed, serialized
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.label_parts import drop_staging, names_in, parquet_bytes, publish_file, read_file

RECORD, CARD = "export.json", "README.md"
_STAGING = ".staging"


@dataclass(frozen=True)
class TrainingSet:
    """A format of training sets. `examples` makes the rows of one part of the labels."""

    name: str
    examples: Callable[[Examples, Shape], Shard]
    suffix: str

    def write(self, labels: FinishedLabels, target: str, options: Options, exported: Exported) -> None:
        """Write a training set into a new folder, or find that it is there already.

        Equal labels give equal bytes. Parts without any row have no shard.

        Raises:
            ConfigError: The folder holds other files.
            InputError: The labels have no row for this format.
            CommitError: Something cannot be read or written.
        """
        folder = Folder.at(target)
        record = {"format": self.name, "labels": labels.record.fingerprint}
        if self._is_there(folder, record, exported):
            return
        rows, shards, left_out = self._write_shards(labels, folder, record, exported)
        if not rows:
            shown = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items()) or "there are no labels"
            raise InputError(f"{labels.folder.uri} has no row for --format {self.name}: {shown}.")
        exported.rows = rows
        exported.left_out = dict(left_out)
        counts = {"queries": exported.queries, "rows": rows, "shards": shards, "left_out": exported.left_out}
        card = card_of(self.name, self.suffix, labels.record, counts)
        publish_file(folder, CARD, card.encode(), staging=_STAGING)
        publish_file(folder, RECORD, serialized({**record, "status": "complete", **counts}), staging=_STAGING)
        drop_staging(folder, _STAGING)

    def _write_shards(
        self, labels: FinishedLabels, folder: Folder, record: dict[str, Any], exported: Exported
    ) -> tuple[int, int, Counter[str]]:
        left_out: Counter[str] = Counter()
        rows = number = 0
        for part in labels.parts():
            shard = self.examples(part, labels.shape)
            left_out.update(shard.left_out)
            exported.queries += len(part) - sum(shard.left_out.values())
            if not len(shard.rows):
                continue
            if not number:
                publish_file(folder, RECORD, serialized({**record, "status": "unfinished"}), staging=_STAGING)
            name = _shard_name(number)
            publish_file(folder, f"ids/{name}.parquet", parquet_bytes(shard.ids, _short(shard.ids)), staging=_STAGING)
            publish_file(folder, f"data/{name}.{self.suffix}", self._content(shard), staging=_STAGING)
            rows, number = rows + len(shard.rows), number + 1
        return rows, number, left_out

    def _content(self, shard: Shard) -> pa.Buffer | bytes:
        if self.suffix == "parquet":
            return parquet_bytes(shard.rows, shard.schema)
        lines = io.BytesIO()
        pl.DataFrame(pl.from_arrow(shard.rows)).write_ndjson(lines)
        return lines.getvalue()

    def _is_there(self, folder: Folder, record: dict[str, Any], exported: Exported) -> bool:
        """Whether this very training set is complete, with all its files; one that is not is written again.

        Raises:
            ConfigError: The folder holds something else, or a file more.
        """
        if not (names := _names_in(folder)):
            return False
        recorded = _recorded(folder) if RECORD in names else {}
        if {name: recorded.get(name) for name in record} != record:
            raise _is_foreign(folder, names)
        if recorded.get("status") != "complete":
            return False
        wanted = {"data": self.suffix, "ids": "parquet"}
        for inner, suffix in wanted.items():
            own = [f"{_shard_name(at)}.{suffix}" for at in range(recorded["shards"])]
            there = names_in(folder, inner)
            if foreign := sorted(set(there) - set(own)):
                raise ConfigError(f"{folder.child(inner, foreign[0])} is no file of this training set. Move it away.")
            if there != own or CARD not in names:
                return False
        exported.queries, exported.rows, exported.left_out = recorded["queries"], recorded["rows"], recorded["left_out"]
        return True


def _shard_name(number: int) -> str:
    return f"train-{number:05d}"


def _names_in(folder: Folder) -> list[str]:
    """The files of a training set, without those that a killed command has left."""
    return [name for name in names_in(folder) if name != _STAGING]


def _recorded(folder: Folder) -> dict[str, Any]:
    """The record, empty where it is not what this program writes."""
    try:
        recorded = parsed(read_file(folder, RECORD))
    except ValueError:
        return {}
    return recorded if isinstance(recorded, dict) else {}


def refuse_foreign(folder: Folder) -> None:
    """Raises ConfigError where a folder has files and is no training set."""
    if (names := _names_in(folder)) and RECORD not in names:
        raise _is_foreign(folder, names)


def _is_foreign(folder: Folder, names: Sequence[str]) -> ConfigError:
    what = f"holds files of something else, such as {names[0]!r}"
    if RECORD in names:
        what = "holds another training set, of another format or of other labels"
    return ConfigError(f"{folder.uri} {what}. Use an empty or a new folder.")


def _short(ids: pa.Table) -> pa.Schema:
    return pa.schema([output_field(field) for field in ids.schema])


_SETS = (
    TrainingSet("st-pair", st.pair, "parquet"),
    TrainingSet("st-labeled-pair", st.labeled_pair, "parquet"),
    TrainingSet("st-triplet", st.triplet, "parquet"),
    TrainingSet("st-n-tuple", st.n_tuple, "parquet"),
    TrainingSet("st-list", st.lists, "parquet"),
    TrainingSet("flagembedding", jsonl.flag_embedding, "jsonl"),
    TrainingSet("ms-swift", jsonl.ms_swift, "jsonl"),
    TrainingSet("tevatron", jsonl.tevatron, "jsonl"),
)
TRAINING_SETS = tuple(Format(each.name, each.write) for each in _SETS)
