"""Pairs are found again by their texts, in any order of the table, night after night."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightly import FINGERPRINT, Night, Pair, first_night, keys_of, publish, rows_of, score, unit_id, units_of
from oracle import logit_of

from reranker_batch.core.memo import MEMO_DTYPE, MemoRows, pair_hashes
from reranker_batch.core.pairs import BoolArray
from reranker_batch.errors import CommitError
from reranker_batch.reuse.lookup import MOST_PARTS, Lookup, is_in_order
from reranker_batch.reuse.probe import Probe
from reranker_batch.reuse.regroup import MOST_UNITS, regroup
from reranker_batch.reuse.search import PairSearch
from reranker_batch.reuse.source import MemoSource, open_source
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.run_state import RunState
from reranker_batch.storage.output.scratch import Scratch

_TEXT = st.sampled_from(["", "a", "ab", "naïve", "市场 🙂", "the river", "long text here"])
PAIRS = st.lists(st.tuples(_TEXT, _TEXT | st.text(max_size=4)), max_size=30)


def opened(night: Night, output: Path) -> MemoSource:
    scratch = Scratch.fresh(Folder.at(str(output)), "reuse")
    return open_source(night.output, night.files, scratch, scoring_fingerprint=FINGERPRINT)


def regrouped(source: MemoSource, units: Sequence[MemoRows], *, run_bytes: int = 300) -> Lookup:
    ids, queries = [unit_id(at) for at in range(len(units))], [np.unique(keys["q0"]) for keys in units]
    scratch = Scratch.fresh(source.scratch.output, "regrouped")
    return Lookup(source, regroup(source, ids, queries, scratch, run_bytes=run_bytes))


def logits_of(pairs: Sequence[Pair]) -> list[np.float32]:
    return [logit_of(query.encode(), document.encode()) for query, document in pairs]


def assert_right(pairs: Sequence[Pair], is_known: BoolArray, rows: MemoRows) -> None:
    right = keys_of(pairs)
    score(pairs, right, np.arange(len(pairs)))
    for name in set(MEMO_DTYPE.names or ()) - {"nights"}:
        assert rows[name][is_known].tolist() == right[name][is_known].tolist()
    assert rows[~is_known].tolist() == keys_of(pairs)[~is_known].tolist()


@given(table=PAIRS, new=PAIRS, size=st.integers(1, 12), by_regroup=st.booleans(), data=st.data())
@settings(max_examples=25)
def test_what_is_found_is_what_a_dictionary_finds(
    table: list[Pair], new: list[Pair], size: int, by_regroup: bool, data: st.DataObject
) -> None:
    tonight = data.draw(st.permutations(table + new))
    size_before = max(size, -(-len(table) // MOST_PARTS))  # so that no query has more parts than are looked at
    with tempfile.TemporaryDirectory() as folder:
        source = opened(first_night(Path(folder) / "a", table, size_before), Path(folder) / "b")
        units = units_of(tonight, max(size, -(-len(tonight) // MOST_UNITS)))
        keys = [keys_of(pairs) for pairs in units]
        lookup = regrouped(source, keys) if by_regroup else Lookup(source)
        for at, pairs in enumerate(units):
            is_known, rows = lookup.find(unit_id(at), keys[at])
            assert is_known.tolist() == [pair in set(table) for pair in pairs]
            assert_right(pairs, is_known, rows)


@given(
    nights=st.lists(st.tuples(PAIRS, st.integers(8, 20)), min_size=2, max_size=5), most=st.none() | st.integers(0, 3)
)
@settings(max_examples=10)
def test_a_chain_of_nights_keeps_every_score_and_counts_its_age(
    nights: list[tuple[list[Pair], int]], most: int | None
) -> None:
    """Each night has the last one's output alone; a pair that is gone for a night is scored again."""
    with tempfile.TemporaryDirectory() as folder:
        age: dict[Pair, int] = {}
        night = publish(Path(folder) / "first", [])
        for number, (table, size) in enumerate(nights):
            lookup = Lookup(opened(night, Path(folder) / f"out{number}"), max_age_nights=most)
            units, before = [], age
            known = {pair: at + 1 for pair, at in before.items() if most is None or at + 1 <= most}
            age = {pair: known.get(pair, 0) for pair in table}
            for at, pairs in enumerate(units_of(table, size)):
                is_known, rows = lookup.find(unit_id(at), keys_of(pairs))
                assert is_known.tolist() == [pair in known for pair in pairs]
                score(pairs, rows, np.flatnonzero(~is_known))
                assert rows["logit"].tolist() == logits_of(pairs)
                assert rows["nights"].tolist() == [age[pair] for pair in pairs]
                units.append(rows)
            night = publish(Path(folder) / f"night{number}", units)


def test_a_query_that_stands_everywhere_is_found_in_order_and_leads_to_few_parts(tmp_path: Path) -> None:
    table = [("", f"document {at}") for at in range(400)]
    source = opened(first_night(tmp_path / "a", table, 10), tmp_path / "b")
    lookup = Lookup(source)
    for at, pairs in enumerate(units_of(table, 10)):
        assert lookup.find(unit_id(at), keys_of(pairs))[0].all()
    assert len(source.index.places_of(keys_of(table[:1])["q0"], near=7, most=MOST_PARTS)[0]) == MOST_PARTS


def test_the_rows_of_a_query_that_stands_everywhere_are_copied_a_bounded_number_of_times(tmp_path: Path) -> None:
    table = [("", f"document {at}") for at in range(200)]
    source = opened(first_night(tmp_path / "a", table, 50), tmp_path / "b")
    lookup = regrouped(source, [keys_of(pairs) for pairs in units_of(table, 2)])
    assert lookup.regrouped is not None
    copies = sum(len(rows) for at in range(100) for rows in lookup.regrouped.rows_of(unit_id(at)))
    assert copies == MOST_UNITS * len(table)


def test_an_order_is_told_from_another(tmp_path: Path) -> None:
    table = [(f"query {at}", "document") for at in range(400)]
    source = opened(first_night(tmp_path / "a", table, 10), tmp_path / "b")
    shuffled = [table[at] for at in np.random.default_rng(0).permutation(len(table))]
    for tonight, is_expected in ((table, True), (table[7:], True), (shuffled, False), ([], True)):
        samples = [(unit_id(at), keys_of(pairs)["q0"]) for at, pairs in enumerate(units_of(tonight, 25))]
        assert is_in_order(source, samples) == is_expected


@pytest.mark.parametrize("by_regroup", [False, True])
def test_a_changed_part_is_stopped_before_its_rows_are_used(tmp_path: Path, by_regroup: bool) -> None:
    table = [(f"query {at}", "document") for at in range(40)]
    night = first_night(tmp_path / "a", table, 10)
    source = opened(night, tmp_path / "b")
    part = tmp_path / "a" / "memo" / f"part-{unit_id(0)}.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)
    keys = keys_of(table)
    with pytest.raises(CommitError, match=r"memo/part-00000-0000000000\.parquet is not the file"):
        (regrouped(source, [keys]) if by_regroup else Lookup(source)).find(unit_id(0), keys)


def test_pairs_that_share_a_hash_are_told_apart() -> None:
    """The hash is 64 bits of two halves, so that such pairs can be made."""
    keys = np.zeros(2, MEMO_DTYPE)
    keys["q0"] = [1, 2]
    with np.errstate(over="ignore"):
        keys["d0"] = -keys["q0"] * np.uint64(0x9E3779B97F4A7C15)
    assert len(set(pair_hashes(keys).tolist())) == 1
    for at in (0, 1):
        search = PairSearch(keys)
        search.offer(keys[at : at + 1])
        assert search.result()[0].tolist() == [at == 0, at == 1]
        stranger = keys[at : at + 1].copy()
        stranger["d1"] += np.uint64(1)
        search = PairSearch(keys)
        search.offer(stranger)
        assert not search.result()[0].any()


def test_the_next_attempt_sweeps_what_the_last_one_left(tmp_path: Path) -> None:
    source = opened(first_night(tmp_path / "a", [("q", "d")], 1), tmp_path / "b")
    assert Path(source.scratch.path_of("index")).stat().st_size == 12
    RunState(Folder.at(str(tmp_path / "b"))).start()
    assert not Path(source.scratch.path_of("index")).exists()


def test_a_probe_counts_what_is_left_and_samples_what_is_reused(tmp_path: Path) -> None:
    table = [(f"query {at}", f"document {at}") for at in range(20)]
    probe = Probe(Lookup(opened(first_night(tmp_path / "a", table, 10), tmp_path / "b")))
    probe.add(unit_id(0), rows_of([*table[:5], ("new", "pair"), *table[5:10]]), sample=4)
    probe.add(unit_id(1), rows_of(table[10:]), sample=100)
    probe.add(unit_id(2), rows_of([]), sample=1)
    assert (probe.pairs, probe.left, len(probe.sample)) == (21, 1, 14)
    sampled = list(zip(probe.sample.queries, probe.sample.documents, strict=True))
    assert set(sampled) <= set(table)
    assert sampled[4:] == table[10:]
    assert probe.sample.logits.tolist() == logits_of(sampled)
