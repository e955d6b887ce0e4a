"""What reusing last night's scores costs: bytes of a memo, look-ups in the table's order and shuffled.

    python benchmarks/nights.py --pairs 1000000 --candidates 40
    python benchmarks/nights.py --whole --pairs 50000

Keys are random, as hashes are; texts are only made for the unit whose preparation is timed. Times are those of the CPU.
With `--whole` two nights are run, all of the first and of the second what changed: with a scorer that takes a
millisecond a pair, and with the model that ships with the package. These are seconds of the wall as reports have them,
with all replicas in one process that is up already.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from engine import HashBackend
from oracle import HashScorer

from reranker_batch import JobConfig, RunReport
from reranker_batch.core.counts import Counts
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.memo import MEMO_DTYPE, MemoRows
from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import PairScores
from reranker_batch.core.report import MemoFile
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.reuse.lookup import Lookup, is_in_order
from reranker_batch.reuse.regroup import regroup
from reranker_batch.reuse.source import MemoSource, open_source
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.memo import publish_memo
from reranker_batch.storage.output.parts import MEMO, STAGING, PartRecord
from reranker_batch.storage.output.scratch import Scratch

FINGERPRINT = "0" * 64


@dataclass(frozen=True)
class Table:
    """Memo rows of a whole table in the order of its queries."""

    rows: MemoRows
    candidates: int

    def units(self, order: np.ndarray[Any, Any], unit_pairs: int) -> list[MemoRows]:
        """The table cut into units, its queries in `order`."""
        by_query = self.rows.reshape(-1, self.candidates)[order].reshape(-1)
        return np.array_split(by_query, max(1, len(by_query) // unit_pairs))


def draw(pairs: int, candidates: int) -> Table:
    """Random hashes, logits of a normal distribution, documents of a long-tailed one."""
    rng = np.random.default_rng(0)
    queries = max(1, pairs // candidates)
    rows = np.zeros(queries * candidates, MEMO_DTYPE)
    for name in ("q0", "q1"):
        rows[name] = np.repeat(rng.integers(0, 2**64, queries, dtype=np.uint64), candidates)
    for name in ("d0", "d1"):
        rows[name] = rng.integers(0, 2**64, len(rows), dtype=np.uint64)
    rows["logit"] = rng.normal(0, 3, len(rows))
    rows["query_item_tokens"] = rows["query_tokens"] = np.repeat(rng.integers(3, 20, queries), candidates)
    rows["document_item_tokens"] = np.clip(rng.lognormal(4.3, 0.5, len(rows)), 1, 512)
    rows["document_tokens"] = np.minimum(rows["document_item_tokens"], 256)
    rows["cut"] = (rows["document_item_tokens"] > 256) * 4
    rows["nights"] = rng.integers(0, 7, len(rows))
    return Table(rows, candidates)


def publish(output: Folder, units: list[MemoRows]) -> dict[str, MemoFile]:
    for folder in (MEMO, STAGING):
        Path(output.child(folder)).mkdir(parents=True)
    return {
        unit_id(at): publish_memo(
            output, rows, PartRecord(unit_id(at), FINGERPRINT, Counts()), scoring_fingerprint=FINGERPRINT
        )
        for at, rows in enumerate(units)
    }


def unit_id(at: int) -> str:
    return f"00000-{at * 1000:010d}"


def changed(rows: MemoRows, share: float) -> MemoRows:
    """The same pairs, some with another document."""
    keys = rows.copy()
    new = np.random.default_rng(1).random(len(keys)) < share
    keys["d1"][new] += np.uint64(1)
    return keys


def pairs_a_second(lookup: Lookup, units: list[MemoRows], share: float, before_s: float = 0.0) -> tuple[float, float]:
    """Speed of looking up all units, and the share that was found."""
    asked = [changed(rows, share) for rows in units]
    started = time.process_time()
    found = sum(int(lookup.find(unit_id(at), keys)[0].sum()) for at, keys in enumerate(asked))
    total = sum(map(len, units))
    return total / (time.process_time() - started + before_s), found / total


def shuffled(source: MemoSource, units: list[MemoRows], share: float) -> dict[str, float]:
    scratch = Scratch.fresh(source.scratch.output, "regrouped")
    queries = [np.unique(rows["q0"]) for rows in units]
    started = time.process_time()
    regrouped = regroup(source, [unit_id(at) for at in range(len(units))], queries, scratch)
    regroup_s = time.process_time() - started
    speed, found = pairs_a_second(Lookup(source, regrouped), units, share, regroup_s)
    return {"pairs_a_second": speed, "found": found, "regroup_s": regroup_s}


def unchanged_unit(pairs: int, candidates: int) -> dict[str, float]:
    """Microseconds a pair to hash a unit's texts and look it up in its own memo; best of three."""
    rng, queries = np.random.default_rng(2), pairs // candidates
    words = np.array([f"word{at}" for at in range(5000)])
    texts = [" ".join(row) for row in words[rng.integers(0, len(words), (queries * candidates, 75))]]
    rows = UnitRows(
        pa.table({"query": pa.array([f"query {at}" for at in range(queries)], pa.large_string())}),
        pa.table(
            {"query_at": np.repeat(np.arange(queries), candidates), "document": pa.array(texts, pa.large_string())}
        ),
        DEAD_LETTER_PLACES.empty_table(),
    )
    with TemporaryDirectory() as folder:
        output = Folder.at(folder)
        files = publish(output, [UnitTexts.of(rows).keys()])
        lookup = Lookup(
            open_source(output, files, Scratch.fresh(output, "reuse"), scoring_fingerprint=FINGERPRINT),
            max_age_nights=None,
        )
        times = []
        for _ in range(3):
            started = time.process_time()
            keys = UnitTexts.of(rows).keys()
            hashed = time.process_time()
            assert lookup.find(unit_id(0), keys)[0].all()
            times.append((time.process_time() - started, hashed - started))
    whole, hashing = min(times)
    return {"us_a_pair": whole / len(texts) * 1e6, "of_which_texts": hashing / len(texts) * 1e6}


class SlowScorer(HashScorer):
    """Takes a millisecond for each pair."""

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        time.sleep(len(inputs) / 1000)
        return PairScores(np.zeros(len(inputs), dtype=np.float32))


def write_table(folder: Path, pairs: int, candidates: int, share: float, *, is_shuffled: bool) -> None:
    """Queries with the same documents in every call but for a share of them, which are new."""
    rng, queries = np.random.default_rng(4), pairs // candidates
    words = np.array([f"word{at}" for at in range(5000)])
    texts = [" ".join(row) for row in words[rng.integers(0, len(words), (queries * candidates, 20))]]
    is_new = np.random.default_rng(5).random(len(texts)) < share
    texts = [f"{text} new" if new else text for text, new in zip(texts, is_new, strict=True)]
    rows = np.arange(queries)
    order = rng.permutation(rows) if is_shuffled else rows
    lists = [
        [{"doc_id": f"d{at}", "text": texts[row * candidates + at]} for at in range(candidates)]
        for row in order.tolist()
    ]
    folder.mkdir(parents=True)
    table = pa.table({"query_id": [f"q{row}" for row in order], "query": [f"query {row}" for row in order]})
    pq.write_table(table.append_column("candidates", pa.array(lists)), folder / "a.parquet", row_group_size=500)


def night(folder: Path, name: str, source: str, *, is_model: bool, last: str | None = None) -> RunReport:
    """Run a night on the engine without processes."""
    values: dict[str, Any] = {
        "input": {"path": str(folder / source)},
        "model": {"name": "builtin:mini", "device": "cpu"},
        "output": {"path": str(folder / name)},
        "reuse": {"from": None if last is None else str(folder / last), "required": last is not None},
        "limits": {"profile": "none"},
    }
    job = open_job(JobConfig.of(values))
    return run_job(job if is_model else replace(job, backend=HashBackend(scorer=SlowScorer())), inline_engine)


def whole_nights(pairs: int, candidates: int, share: float, *, is_model: bool) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for source, new, is_shuffled in (("in", 0.0, False), ("next", share, False), ("shuffled", share, True)):
            write_table(folder / source, pairs, candidates, new, is_shuffled=is_shuffled)
        full = night(folder, "full", "in", is_model=is_model)
        results: dict[str, Any] = {"full_s": full.wall_s}
        for source in ("next", "shuffled", "in"):
            report = night(folder, f"{source}-out", source, is_model=is_model, last="full")
            results["unchanged" if source == "in" else source] = {
                "wall_s": report.wall_s,
                "times_less": full.wall_s / report.wall_s,
                "rescored": report.rescored,
                "step_s": report.step_s,
            }
        return results


def measure(pairs: int, candidates: int, unit_pairs: int, share: float) -> dict[str, Any]:
    table = draw(pairs, candidates)
    order = np.arange(len(table.rows) // candidates)
    units = table.units(order, unit_pairs)
    mixed = table.units(np.random.default_rng(3).permutation(order), unit_pairs)
    with TemporaryDirectory() as folder:
        output = Folder.at(folder)
        files = publish(output, units)
        started = time.process_time()
        source = open_source(output, files, Scratch.fresh(output, "reuse"), scoring_fingerprint=FINGERPRINT)
        index_s = time.process_time() - started
        speed, found = pairs_a_second(Lookup(source), units, share)
        return {
            "bytes_a_pair": sum(file.size_bytes for file in files.values()) / len(table.rows),
            "index_s": index_s,
            "index_bytes_a_query": len(source.index.keys) * 12 / len(order),
            "in_order": {"pairs_a_second": speed, "found": found, "needs_regroup": not in_order(source, units)},
            "shuffled": shuffled(source, mixed, share) | {"needs_regroup": not in_order(source, mixed)},
        }


def in_order(source: MemoSource, units: list[MemoRows]) -> bool:
    return is_in_order(source, [(unit_id(at), units[at]["q0"]) for at in range(0, len(units), 8)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--unit-pairs", type=int, default=16_384)
    parser.add_argument("--changed", type=float, default=0.02)
    parser.add_argument("--whole", action="store_true")
    asked = parser.parse_args()
    if asked.whole:
        nights = {
            name: whole_nights(asked.pairs, asked.candidates, asked.changed, is_model=is_model)
            for name, is_model in (("a millisecond a pair", False), ("builtin:mini", True))
        }
        print(json.dumps(nights, indent=2))
        return
    results = measure(asked.pairs, asked.candidates, asked.unit_pairs, asked.changed)
    results["unchanged_unit"] = unchanged_unit(min(asked.unit_pairs, asked.pairs), asked.candidates)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
