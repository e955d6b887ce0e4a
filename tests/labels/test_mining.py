"""With one teacher and plain scores, negatives are those of sentence-transformers' `mine_hard_negatives`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tables import Group
from teachers import Bench, ChosenScorer, chosen

QUERIES, CANDIDATES = 6, 12


class Embeddings:
    """A model whose similarities are the chosen logits: queries are rows of a matrix, documents its columns."""

    def __init__(self, scores: np.ndarray[Any, Any], places: Mapping[str, int]) -> None:
        self.scores, self.places = scores, places
        self.device = torch.device("cpu")

    def encode_query(self, texts: Sequence[str], **_: Any) -> Any:
        return np.eye(QUERIES, dtype=np.float32)[[self.places[text] for text in texts]]

    def encode_document(self, texts: Sequence[str], **_: Any) -> Any:
        return self.scores.T[[self.places[text] for text in texts]]

    def similarity(self, queries: Any, documents: Any) -> Any:
        return torch.as_tensor(queries) @ torch.as_tensor(documents).T

    def similarity_pairwise(self, queries: Any, documents: Any) -> Any:
        return (torch.as_tensor(queries) * torch.as_tensor(documents)).sum(dim=1)


def mined(groups: Sequence[Group], scores: np.ndarray[Any, Any], **rules: Any) -> set[tuple[str, str]]:
    datasets = pytest.importorskip("datasets")
    from sentence_transformers.util import mine_hard_negatives

    corpus = [text for _, _, candidates in groups for _, text in candidates]
    places = {group[1]: at for at, group in enumerate(groups)} | {text: at for at, text in enumerate(corpus)}
    pairs = {"query": [group[1] for group in groups], "answer": [group[2][0][1] for group in groups]}
    found = mine_hard_negatives(
        datasets.Dataset.from_dict(pairs),
        Embeddings(scores, places),  # type: ignore[arg-type]  # all that is used of a model
        corpus=corpus,
        range_max=len(corpus),
        verbose=False,
        output_format="triplet",
        **rules,
    )
    return {(row["query"], row["negative"]) for row in found}


@pytest.mark.parametrize(
    "rules",
    [
        {"relative_margin": 0.05, "num_negatives": 3},
        {"relative_margin": 0.3, "num_negatives": 5},
        {"relative_margin": None, "absolute_margin": 1.5, "num_negatives": 4},
        {"relative_margin": 0.05, "max_score": 1.0, "min_score": -2.5, "num_negatives": 4},
        {"relative_margin": 0.05, "range_min": 2, "num_negatives": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("offset", [-6.0, 0.0, 6.0])
def test_negatives_are_those_of_mine_hard_negatives(tmp_path: Path, rules: dict[str, Any], offset: float) -> None:
    """With logits below zero, around it and above; ties with the margin among them."""
    rules = {name: rule + offset if name.endswith("_score") else rule for name, rule in rules.items()}
    own = np.random.default_rng(4).normal(offset, 2, (QUERIES, CANDIDATES)).astype(np.float32).round(2)
    own[:, 0] = own[:, 0] + 2
    own[:, 1] = own[:, 0] - np.abs(own[:, 0]) * np.float32(0.05)
    groups = [
        chosen(f"q{at}", *((f"{at}-{place}", float(own[at, place])) for place in range(CANDIDATES)))
        for at in range(QUERIES)
    ]
    scores = np.full((QUERIES, QUERIES * CANDIDATES), -1e9, np.float32)
    for at in range(QUERIES):
        scores[at, at * CANDIDATES : (at + 1) * CANDIDATES] = own[at]
    expected = {pair for pair in mined(groups, scores, **rules) if owner_of(pair[1]) == owner_of(pair[0])}
    bench = Bench(tmp_path)
    bench.write_input(groups)
    bench.teach("one", ChosenScorer(0))
    (tmp_path / "qrels.txt").write_text("".join(f"q{at} 0 {at}-0 1\n" for at in range(QUERIES)))
    names = {"num_negatives": "num", "max_score": "max_score", "min_score": "min_score"}
    negatives: dict[str, Any] = {name: rules[name] for name in ("relative_margin", "absolute_margin") if name in rules}
    negatives |= {own_name: rules[name] for name, own_name in names.items() if name in rules}
    negatives["rank"] = [rules.get("range_min", 0), None]
    positives = {"from": "qrels", "qrels": str(tmp_path / "qrels.txt")}
    bench.label(["one"], scale="none", positives=positives, negatives=negatives)
    found = {(row["query"], item["text"]) for row in bench.rows() for item in row["negatives"]}
    assert found == expected
    assert found


def owner_of(text: str) -> str:
    """The query that a text of `chosen` names."""
    return text.partition("|")[0].rpartition(" ")[2]
