"""How a tokenizer joins two texts, learned by watching it, so that pairs can be put together from ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import PairTemplate, assemble_pairs
from reranker_batch.core.ragged import Ragged
from reranker_batch.model.encoding.canaries import PAIRS

_ANY_LENGTH = 1 << 30


@dataclass(frozen=True)
class JoinedPair:
    """One pair as the tokenizer's own pair encoding gives it.

    `owners[i]` is 0 where id `i` comes from the query, 1 where from the document, None where from the template.
    """

    ids: list[int]
    types: list[int]
    owners: list[int | None]

    def part(self, owner: int) -> list[int]:
        return [token_id for token_id, item in zip(self.ids, self.owners, strict=True) if item == owner]

    @property
    def template_ids(self) -> list[int]:
        return [token_id for token_id, item in zip(self.ids, self.owners, strict=True) if item is None]


def join_pairs(tokenizer: Any, queries: Sequence[str], documents: Sequence[str]) -> list[JoinedPair]:
    """Encode pairs as the tokenizer itself does; `tokenizer` is one of transformers' fast tokenizers."""
    # Lists even for one pair: a single empty document would be taken for no document at all.
    encoded = tokenizer(
        list(queries),
        list(documents),
        add_special_tokens=True,
        split_special_tokens=True,
        padding=False,
        truncation=False,
        return_token_type_ids=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    fields = zip(encoded["input_ids"], encoded["token_type_ids"], encoded["special_tokens_mask"], strict=True)
    return [
        JoinedPair(ids, types, _owners(mask, encoded.sequence_ids(position)))
        for position, (ids, types, mask) in enumerate(fields)
    ]


def _owners(special_mask: Sequence[int], sequences: Sequence[int | None]) -> list[int | None]:
    # Of a text that the template repeats, `tokenizers` keeps the last place only; the others count as the query's.
    return [None if special else sequence or 0 for special, sequence in zip(special_mask, sequences, strict=True)]


def learn_template(pair: JoinedPair) -> PairTemplate | None:
    """The template seen in one pair of two texts that are not empty, or None where it has no such form.

    The form is: special tokens, query, special tokens, document, special tokens.
    """
    runs = _runs(pair.owners)
    if [owner for owner, _, _ in runs if owner is not None] != [0, 1]:
        return None
    (_, query_start, query_end), (_, document_start, document_end) = (run for run in runs if run[0] is not None)
    return PairTemplate(
        prefix=tuple(pair.ids[:query_start]),
        middle=tuple(pair.ids[query_end:document_start]),
        suffix=tuple(pair.ids[document_end:]),
        first_type_extra=pair.types.count(0) - (query_end - query_start),
    )


def reproduces(template: PairTemplate, tokenizer: Any, texts: Sequence[str], tokens: Ragged) -> bool:
    """Whether pairs assembled from the ids of `texts` equal the tokenizer's own for every canary pair."""
    place = {text: position for position, text in enumerate(texts)}
    query_at = np.array([place[query] for query, _ in PAIRS], dtype=np.int64)
    document_at = np.array([place[document] for _, document in PAIRS], dtype=np.int64)
    ours = assemble_pairs(template, tokens, tokens, query_at, document_at, max_pair_tokens=_ANY_LENGTH)
    inputs = as_tokens(ours.inputs)
    theirs = join_pairs(tokenizer, [query for query, _ in PAIRS], [document for _, document in PAIRS])
    has_types = any(any(pair.types) for pair in theirs)
    return all(
        inputs.ids[position].tolist() == pair.ids
        and (not has_types or pair.types == _types(int(inputs.first_type_tokens[position]), len(pair.ids)))
        for position, pair in enumerate(theirs)
    )


def _types(first_type_tokens: int, length: int) -> list[int]:
    return [0] * first_type_tokens + [1] * (length - first_type_tokens)


def _runs(owners: Sequence[int | None]) -> list[tuple[int | None, int, int]]:
    """Neighbours of one owner as (owner, start, end)."""
    starts = [at for at, owner in enumerate(owners) if at == 0 or owner != owners[at - 1]]
    return [(owners[start], start, end) for start, end in zip(starts, [*starts[1:], len(owners)], strict=True)]
