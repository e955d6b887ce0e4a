"""TREC and MS MARCO runs: a line for each result."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.errors import ConfigError
from reranker_batch.exporting.formats import Exported, Format, Options, in_one_file
from reranker_batch.exporting.rankings import Ranked, read_rankings

DEFAULT_TAG = "reranker-batch"
_BLANK = r"[\s\pZ\x00\x0B\x1C-\x1F\x{85}]"
_LINE_OR_TAB = r"[\t\n\r\x00\x0B\x0C\x1C-\x1E\x{85}\x{2028}\x{2029}]"


def _write_trec(output: Ranked, options: Options, exported: Exported) -> Iterator[bytes]:
    """`qid Q0 docid rank score tag`. Scores are exact float32 that decrease strictly within a query."""
    tag = options.get("tag", DEFAULT_TAG)
    if not _is_plain(tag, _BLANK):
        raise ConfigError(f"--tag {tag!r}: the tag of a TREC run is one word.")
    for rankings in read_rankings(output, exported):
        _refuse(rankings.query_ids, _BLANK, "query", "trec")
        _refuse(rankings.doc_ids, _BLANK, "document", "trec")
        scores = pa.array(rankings.scores).cast(pa.float64())
        yield _lines([rankings.query_ids, "Q0", rankings.doc_ids, pa.array(rankings.ranks), scores, tag], " ")


def _write_msmarco(output: Ranked, options: Options, exported: Exported) -> Iterator[bytes]:
    """`qid pid rank`, separated by tabs."""
    for rankings in read_rankings(output, exported):
        for ids, what in ((rankings.query_ids, "query"), (rankings.doc_ids, "document")):
            _refuse(ids, rf"{_LINE_OR_TAB}|^{_BLANK}|{_BLANK}$", what, "msmarco")
        yield _lines([rankings.query_ids, rankings.doc_ids, pa.array(rankings.ranks)], "\t")


def _is_plain(text: str, pattern: str) -> bool:
    return bool(text) and not pc.match_substring_regex(pa.scalar(text), pattern).as_py()


def _refuse(ids: pa.Array, pattern: str, what: str, name: str) -> None:
    """Raises ConfigError for an id that readers of the file would take for something else."""
    is_bad = pc.or_(pc.equal(ids, ""), pc.match_substring_regex(ids, pattern))
    if (at := pc.index(is_bad, True).as_py()) >= 0:
        raise ConfigError(
            f"The {what} id {ids[at].as_py()[:200]!r} is empty or has blanks, which a file of --format {name} cannot "
            "hold. Use --format jsonl or mteb, or score again with other ids (input.columns.query_id and doc_id)."
        )


def _lines(columns: list[pa.Array | str], separator: str) -> bytes:
    kind = pa.large_string()
    texts = [pa.scalar(column, kind) if isinstance(column, str) else column.cast(kind) for column in columns]
    lines = pc.binary_join_element_wise(*texts, pa.scalar(separator, kind))
    return "".join(f"{line}\n" for line in lines.to_pylist()).encode()


TREC = Format("trec", in_one_file(_write_trec), options=("tag",))
MSMARCO = Format("msmarco", in_one_file(_write_msmarco))
