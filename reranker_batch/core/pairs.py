"""Tokenized texts and the model inputs made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reranker_batch.core.inputs import ModelInputs, TokenInputs
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of
from reranker_batch.errors import RowError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as token ids without special tokens, each cut to the item limit.

    `is_cut[i]` says that text `i` lost tokens. `texts` are the same texts, cut likewise.
    """

    tokens: Ragged
    is_cut: BoolArray
    texts: Sequence[str]


@dataclass(frozen=True)
class EncodedPairs:
    """Model inputs: one per pair, or one per request whose documents are read at once.

    The logits of the inputs are those of the pairs, in their order. `query_tokens` and `document_tokens` count the
    tokens of each text in the input, without special tokens. `is_cut[i]` says that pair `i` lost tokens of either text
    when the two were joined.
    """

    inputs: ModelInputs
    query_tokens: IntArray
    document_tokens: IntArray
    is_cut: BoolArray


@dataclass(frozen=True)
class PairScores:
    """Float32 logits of shape [pairs], in the order of the inputs and of what each of them has.

    `failures` has the reason for every input that cannot be scored, by its place; its logits are NaN. `oom_splits`
    counts the micro-batches that were halved because they did not fit into the memory of the device. `execution`
    describes how the logits were computed, for the report.
    """

    logits: FloatArray
    failures: Mapping[int, RowError] = field(default_factory=dict)
    oom_splits: int = 0
    execution: str = ""


@dataclass(frozen=True)
class PairTemplate:
    """The special tokens around a query and a document, as the tokenizer's own pair encoding puts them."""

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    first_type_extra: int
    """Special tokens with token type 0: the prefix and the leading part of `middle`."""

    @property
    def num_special_tokens(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PairEncoder(Protocol):
    """Turns texts into model inputs. One implementation reads tokenizer files; tests bring their own."""

    @property
    def num_special_tokens(self) -> int: ...

    @property
    def max_pair_tokens(self) -> int:
        """The model's own maximum, special tokens included. For a listwise model, that of all it reads at once."""

    @property
    def is_listwise(self) -> bool:
        """Whether the documents of a request are read together, so that each score depends on the whole request."""

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        """Token ids of each text, cut after `max_tokens`."""

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
        """Pair `i` joins query `query_at[i]` and document `document_at[i]`, cut to `max_pair_tokens`.

        `starts` are the first pairs of the requests, whose pairs have one query. Only a listwise encoder reads them;
        without them each pair is a request of its own.
        """

    def token_starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        """The character at which each token of a text begins, and the one at which the last of them ends.

        Tokens are those of `encode_texts`, so a text has one entry more than tokens.
        """


def encode_text_pairs(encoder: PairEncoder, pairs: Sequence[tuple[str, str]]) -> EncodedPairs:
    """Model inputs of a few pairs given as text, cut to the model's own maximum."""
    at = np.arange(len(pairs), dtype=np.int64)
    queries = encoder.encode_texts([query for query, _ in pairs], max_tokens=None)
    documents = encoder.encode_texts([document for _, document in pairs], max_tokens=None)
    return encoder.encode_pairs(queries, documents, at, at, max_pair_tokens=encoder.max_pair_tokens)


def ignore_progress(tokens: int) -> None:
    """For callers that only need the scores."""


class PairScorer(Protocol):
    """Gives one raw logit a pair. One implementation runs a model; tests bring their own."""

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        """Score all pairs, or say why one cannot be scored; each in a pass of its own if asked for.

        `on_progress` gets the number of tokens done after every micro-batch. Tokens and not pairs, since long pairs are
        computed first and a count of pairs would not grow evenly.
        """


CUTTING_VERSION = 1
"""Raised whenever the same texts and limits would give other model inputs than before."""


def cut_pairs(
    query_tokens: LongArray, document_tokens: LongArray, *, max_pair_tokens: int, num_special_tokens: int
) -> tuple[LongArray, LongArray]:
    """Tokens of query and document that a pair keeps within `max_pair_tokens`, special tokens included.

    A pair that fits is not cut. Otherwise the query is capped at three quarters of the maximum and the document gets
    the rest, so that a long document never shortens a query of usual length (the shares are those of FlagEmbedding's
    reranker collators).
    """
    budget = max_pair_tokens - num_special_tokens
    is_over = query_tokens + document_tokens > budget
    cap = max_query_tokens(max_pair_tokens)
    kept_query = np.where(is_over, np.minimum(query_tokens, cap), query_tokens)
    return kept_query, np.minimum(document_tokens, budget - kept_query)


def max_query_tokens(max_pair_tokens: int) -> int:
    """Tokens that the query of a pair may take."""
    return max_pair_tokens * 3 // 4


def assemble_pairs(
    template: PairTemplate,
    queries: Ragged,
    documents: Ragged,
    query_at: LongArray,
    document_at: LongArray,
    *,
    max_pair_tokens: int,
) -> EncodedPairs:
    """Join ids of texts into model inputs: prefix, query, middle, document, suffix."""
    query_tokens, document_tokens = queries.lengths[query_at], documents.lengths[document_at]
    kept_query, kept_document = cut_pairs(
        query_tokens,
        document_tokens,
        max_pair_tokens=max_pair_tokens,
        num_special_tokens=template.num_special_tokens,
    )
    offsets = offsets_of(kept_query + kept_document + template.num_special_tokens)
    values = np.empty(offsets[-1], dtype=np.int32)
    cursor = _put_constant(values, offsets[:-1], template.prefix)
    cursor = _put_texts(values, cursor, queries, query_at, kept_query)
    cursor = _put_constant(values, cursor, template.middle)
    cursor = _put_texts(values, cursor, documents, document_at, kept_document)
    _put_constant(values, cursor, template.suffix)
    return EncodedPairs(
        inputs=TokenInputs(
            ids=Ragged(values, offsets),
            groups=query_at,
            first_type_tokens=(kept_query + template.first_type_extra).astype(np.int32),
            prefix_tokens=np.zeros(len(query_at), dtype=np.int32),
        ),
        query_tokens=kept_query.astype(np.int32),
        document_tokens=kept_document.astype(np.int32),
        is_cut=(kept_query < query_tokens) | (kept_document < document_tokens),
    )


def _put_constant(values: IntArray, cursor: LongArray, ids: tuple[int, ...]) -> LongArray:
    for shift, token_id in enumerate(ids):
        values[cursor + shift] = token_id
    return cursor + len(ids)


def _put_texts(values: IntArray, cursor: LongArray, texts: Ragged, at: LongArray, kept: LongArray) -> LongArray:
    values[positions_of(cursor, kept)] = texts.values[positions_of(texts.offsets[at], kept)]
    return cursor + kept
