"""Pairs by the tokenizer's own pair encoding, for tokenizers whose pairs cannot be assembled from ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.inputs import ModelInputs, TokenInputs, as_tokens
from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, cut_pairs
from reranker_batch.core.ragged import LongArray, Ragged
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.control_tokens import ControlTokens
from reranker_batch.model.encoding.template import JoinedPair, join_pairs
from reranker_batch.model.encoding.text_reader import spell_tokens, token_starts

_PAIRS_A_CALL = 256


@dataclass(frozen=True)
class _Input:
    """One model input; `query_tokens` and `document_tokens` are counted in it."""

    ids: list[int]
    first_type_tokens: int
    query_tokens: int
    document_tokens: int


@dataclass(frozen=True)
class JointPairEncoder:
    """Cuts texts at the characters where tokens end, and lets the tokenizer join them.

    A text that is cut inside a word may be read as more tokens than it had, so inputs are counted after they are joined
    and cut again until they are within the limit.
    """

    tokenizer: Any
    backend: Tokenizer
    control: ControlTokens
    num_special_tokens: int
    max_pair_tokens: int
    has_token_types: bool
    answer_ids: tuple[int, ...] = ()
    is_listwise = False

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can have."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def describe(self, inputs: ModelInputs) -> list[tuple[str, str]]:
        return [("template", spell_tokens(self.backend, as_tokens(inputs).ids[0]))]

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        tokens = [self._ids(text) for text in texts]
        is_cut = np.array([max_tokens is not None and len(ids) > max_tokens for ids in tokens], dtype=np.bool_)
        if max_tokens is None or not is_cut.any():
            return EncodedTexts(Ragged.from_lists(tokens), is_cut, texts)
        kept = [self._cut(text, max_tokens) if cut else text for text, cut in zip(texts, is_cut, strict=True)]
        return EncodedTexts(Ragged.from_lists(self._ids(text) for text in kept), is_cut, kept)

    def token_starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        return Ragged.from_lists(token_starts(self.backend, self.control, text, max_tokens) for text in texts)

    def encode_pairs(
        self,
        queries: EncodedTexts,
        documents: EncodedTexts,
        query_at: LongArray,
        document_at: LongArray,
        *,
        max_pair_tokens: int,
        starts: LongArray | None = None,
    ) -> EncodedPairs:
        kept_query, kept_document = cut_pairs(
            queries.tokens.lengths[query_at],
            documents.tokens.lengths[document_at],
            max_pair_tokens=max_pair_tokens,
            num_special_tokens=self.num_special_tokens,
        )
        query_texts = self._cut_each(queries, query_at, np.maximum(kept_query, 0))
        document_texts = self._cut_each(documents, document_at, np.maximum(kept_document, 0))
        inputs: list[_Input] = []
        for start in range(0, len(query_at), _PAIRS_A_CALL):
            part = slice(start, start + _PAIRS_A_CALL)
            inputs.extend(self._join(query_texts[part], document_texts[part], max_pair_tokens))
        return _gather(inputs, query_at, queries.tokens.lengths[query_at], documents.tokens.lengths[document_at])

    def _join(self, queries: list[str], documents: list[str], max_pair_tokens: int) -> list[_Input]:
        joined = join_pairs(self.tokenizer, queries, documents)
        inputs = [self._input(pair) for pair in joined]
        return [
            item if len(item.ids) <= max_pair_tokens else self._shrink(query, document, item, max_pair_tokens)
            for query, document, item in zip(queries, documents, inputs, strict=True)
        ]

    def _shrink(self, query: str, document: str, item: _Input, max_pair_tokens: int) -> _Input:
        """Cut the document, then the query, until the joined input is within the limit."""
        kept_query, kept_document = len(self._ids(query)), len(self._ids(document))
        while len(item.ids) > max_pair_tokens:
            over = len(item.ids) - max_pair_tokens
            if kept_query == kept_document == 0:
                raise ModelError(
                    f"limits.max_pair_tokens={max_pair_tokens} is below the {len(item.ids)} tokens that this "
                    "tokenizer puts around two empty texts. Raise it."
                )
            from_document = min(over, kept_document)
            kept_document -= from_document
            kept_query = max(0, kept_query - over + from_document)
            texts = self._cut(query, kept_query), self._cut(document, kept_document)
            item = self._input(join_pairs(self.tokenizer, [texts[0]], [texts[1]])[0])
        return item

    def _input(self, pair: JoinedPair) -> _Input:
        ids: list[int] = []
        types: list[int] = []
        counts = [0, 0]
        for token_id, token_type, owner in zip(pair.ids, pair.types, pair.owners, strict=True):
            pieces = (token_id,) if owner is None else self.control.spell(token_id)
            ids.extend(pieces)
            types.extend([token_type] * len(pieces))
            if owner is not None:
                counts[owner] += len(pieces)
        return _Input(ids, self._first_type_tokens(types), *counts)

    def _first_type_tokens(self, types: list[int]) -> int:
        if not self.has_token_types:
            return len(types)
        length = types.count(0)
        if any(types[:length]):
            raise ModelError(
                "The tokenizer gives the document the first token type and the query the second, or mixes them; "
                "the model's inputs cannot be made."
            )
        return length

    def _ids(self, text: str) -> list[int]:
        ids = self.backend.encode(text, add_special_tokens=False).ids
        return [piece for token_id in ids for piece in self.control.spell(token_id)]

    def _cut_each(self, texts: EncodedTexts, at: LongArray, kept: LongArray) -> list[str]:
        lengths = texts.tokens.lengths
        cut: dict[tuple[int, int], str] = {}
        for place, tokens in zip(at.tolist(), kept.tolist(), strict=True):
            if (place, tokens) not in cut:
                text = texts.texts[place]
                cut[place, tokens] = text if tokens == lengths[place] else self._cut(text, tokens)
        return [cut[key] for key in zip(at.tolist(), kept.tolist(), strict=True)]

    def _cut(self, text: str, max_tokens: int) -> str:
        """The longest beginning of a text, up to the end of one of its tokens, that reads as at most `max_tokens`."""
        ends = [end for _, end in self.backend.encode(text, add_special_tokens=False).offsets]
        for kept in range(min(max_tokens, len(ends)), 0, -1):
            if len(self._ids(text[: ends[kept - 1]])) <= max_tokens:
                return text[: ends[kept - 1]]
        return ""


def _gather(
    inputs: Sequence[_Input], query_at: LongArray, query_tokens: LongArray, document_tokens: LongArray
) -> EncodedPairs:
    kept_query = np.array([item.query_tokens for item in inputs], dtype=np.int32)
    kept_document = np.array([item.document_tokens for item in inputs], dtype=np.int32)
    return EncodedPairs(
        inputs=TokenInputs(
            ids=Ragged.from_lists(item.ids for item in inputs),
            groups=query_at,
            first_type_tokens=np.array([item.first_type_tokens for item in inputs], dtype=np.int32),
            prefix_tokens=np.zeros(len(inputs), dtype=np.int32),
        ),
        query_tokens=kept_query,
        document_tokens=kept_document,
        is_cut=(kept_query < query_tokens) | (kept_document < document_tokens),
    )
