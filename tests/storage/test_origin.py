"""Where the rows of a converted file came from."""

from __future__ import annotations

from reranker_batch.storage.input.origin import Origin


def test_it_comes_back_from_metadata_whatever_the_name_of_the_file() -> None:
    for name in ('day=1/ä 🙂#%22".jsonl', "", "a\nb"):
        origin = Origin(name, 1 << 40)
        assert Origin.of({b"other": b"", **origin.metadata()}) == origin
    assert Origin.of({b"other": b""}) is None
    assert Origin.of(None) is None


def test_places_count_on_from_the_first_row() -> None:
    assert Origin("a#b.tsv", 5).places(2, 3).to_pylist() == ["a#b.tsv#7", "a#b.tsv#8", "a#b.tsv#9"]
    assert Origin("a", 0).places(0, 0).to_pylist() == []
