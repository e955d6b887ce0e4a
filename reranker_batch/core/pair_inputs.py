"""From the texts of pairs to model inputs: one for each pair, each chunk of a long document, or each request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reranker_batch.core.chunks import Chunk, cut_chunks, tokens_in, window_tokens
from reranker_batch.core.inputs import ModelInputs, logit_places
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.memo import MemoRows, PairTokens
from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, FloatArray, PairEncoder
from reranker_batch.core.ragged import LongArray, Ragged, offsets_of, positions_of
from reranker_batch.core.usage import request_starts

_FITTING_ROUNDS = 8
"""A chunk that is read alone may have a few tokens more than in its document, also after it was made shorter."""


@dataclass(frozen=True)
class Pieces:
    """The model's logits for each pair; a pair whose logit is known has none.

    Pair `i` has the logits `logit_at[offsets[i]:offsets[i + 1]]`, one for each chunk of its document. `bounds` has
    shape [pieces, 3]: the characters at which a piece of the document begins and ends, and its tokens in the input. It
    has no rows where long documents are not cut into chunks. Equal inputs give the same logits.
    """

    logit_at: LongArray
    offsets: LongArray
    bounds: npt.NDArray[np.int32]

    @property
    def is_scored(self) -> npt.NDArray[np.bool_]:
        """Pairs that the model gives a logit."""
        return np.diff(self.offsets) > 0

    def of_pairs(self, pairs: LongArray) -> Pieces:
        """Those of some pairs, in that order."""
        lengths = np.diff(self.offsets)[pairs]
        at = positions_of(self.offsets[pairs], lengths)
        bounds = self.bounds[at] if len(self.bounds) else self.bounds
        return Pieces(self.logit_at[at], offsets_of(lengths), bounds)

    def best(self, logits: FloatArray) -> tuple[FloatArray, LongArray]:
        """The greatest logit of each pair and the piece that has it, the first of equal ones.

        `logits` are those of all inputs. A pair with a piece whose logit is no number has none either, and one without
        pieces has NaN.
        """
        best, piece = np.full(len(self.offsets) - 1, np.nan, dtype=np.float32), self.offsets[:-1].copy()
        starts, lengths = self.offsets[:-1][self.is_scored], np.diff(self.offsets)[self.is_scored]
        if not len(starts):
            return best, piece
        values = logits[self.logit_at]
        greatest = np.maximum.reduceat(np.where(np.isneginf(values), np.float32(np.nan), values), starts)
        is_greatest = values == np.repeat(greatest, lengths)
        places = np.where(is_greatest, np.arange(len(values)), len(values))
        best[self.is_scored] = np.where(lengths == 1, values[starts], greatest)
        piece[self.is_scored] = np.minimum(np.minimum.reduceat(places, starts), starts + lengths - 1)
        return best, piece


def tokenize_pairs(
    texts: UnitTexts,
    memo: MemoRows,
    at: LongArray,
    encoder: PairEncoder,
    limits: RequestLimits,
    *,
    list_at: LongArray,
) -> tuple[ModelInputs, Pieces]:
    """Inputs of the pairs `texts`, each once, and which logits each row of `memo` gets: pair `i` is row `at[i]`.

    Neighbouring pairs with equal numbers in `list_at` are candidates of one query, which a listwise model reads
    together as far as a request goes.

    Token counts go into these rows, where long documents are cut into chunks also `chunks`, the number of them, and
    `tokens_read`, the tokens of the document that are in at least one. Each distinct text is tokenized once, a chunk
    once more.
    """
    tokenizer = _Tokenizer(encoder, limits)
    queries, documents, pairs = tokenizer.encode(texts, list_at)
    tokens = _tokens_of(texts, queries, documents, pairs)
    lengths, bounds = np.ones(len(at), dtype=np.int64), np.empty((0, 3), dtype=np.int32)
    if limits.long_documents == "max_chunk":
        chunked = tokenizer.cut_into_chunks(texts, queries, documents, pairs)
        pairs, lengths, bounds = chunked.pairs, chunked.lengths, chunked.bounds
        tokens = replace(tokens, is_pair_cut=chunked.is_cut)
        memo["chunks"][at], memo["tokens_read"][at] = lengths, chunked.tokens_read
    tokens.fill(memo, at)
    distinct, places = pairs.inputs.distinct()
    inputs = pairs.inputs.take(distinct)
    of_rows = np.zeros(len(memo), dtype=np.int64)
    of_rows[at] = lengths
    return inputs, Pieces(logit_places(inputs, places), offsets_of(of_rows), bounds)


def _tokens_of(texts: UnitTexts, queries: EncodedTexts, documents: EncodedTexts, pairs: EncodedPairs) -> PairTokens:
    return PairTokens(
        query_item_tokens=queries.tokens.lengths[texts.query_at],
        document_item_tokens=documents.tokens.lengths[texts.document_at],
        query_tokens=pairs.query_tokens,
        document_tokens=pairs.document_tokens,
        is_query_cut=queries.is_cut[texts.query_at],
        is_document_cut=documents.is_cut[texts.document_at],
        is_pair_cut=pairs.is_cut,
    )


@dataclass(frozen=True)
class _Chunked:
    """Pieces of pairs, one after the other: `lengths[i]` of them are of pair `i`."""

    pairs: EncodedPairs
    lengths: LongArray
    bounds: npt.NDArray[np.int32]
    is_cut: npt.NDArray[np.bool_]
    """Of a pair: text of its query or of its document is in no piece."""
    tokens_read: LongArray


@dataclass(frozen=True)
class _Tokenizer:
    encoder: PairEncoder
    limits: RequestLimits

    @property
    def max_pair_tokens(self) -> int:
        return self.limits.max_pair_tokens or self.encoder.max_pair_tokens

    def encode(self, texts: UnitTexts, list_at: LongArray) -> tuple[EncodedTexts, EncodedTexts, EncodedPairs]:
        """The queries and the documents, each cut to the item limit, and the inputs of the pairs."""
        most = self.limits.max_item_tokens
        queries = self.encoder.encode_texts(texts.queries.to_pylist(), max_tokens=most)
        documents = self.encoder.encode_texts(texts.documents.to_pylist(), max_tokens=most)
        starts = None
        if self.limits.is_listwise:
            lengths = queries.tokens.lengths[texts.query_at], documents.tokens.lengths[texts.document_at]
            starts = request_starts(list_at, *lengths, self.limits)
        return queries, documents, self.join(queries, documents, texts.query_at, texts.document_at, starts)

    def join(
        self,
        queries: EncodedTexts,
        documents: EncodedTexts,
        query_at: LongArray,
        document_at: LongArray,
        starts: LongArray | None = None,
    ) -> EncodedPairs:
        return self.encoder.encode_pairs(
            queries, documents, query_at, document_at, max_pair_tokens=self.max_pair_tokens, starts=starts
        )

    def cut_into_chunks(
        self, texts: UnitTexts, queries: EncodedTexts, documents: EncodedTexts, pairs: EncodedPairs
    ) -> _Chunked:
        """The pieces of all pairs; `pairs` tells which documents the model does not read to their end."""
        whole_tokens = documents.tokens.lengths[texts.document_at]
        is_long = pairs.document_tokens < whole_tokens
        windows = np.where(is_long, window_tokens(self.max_pair_tokens, pairs.document_tokens.astype(np.int64)), 0)
        keys, key_at = np.unique(np.stack([texts.document_at, windows]), axis=1, return_inverse=True)
        ends = self._ends(documents)
        chunks = self._chunks(documents, keys, ends)
        both = _joined(documents, self._encode_chunks(documents, keys, chunks))
        of_key = offsets_of(np.array([len(of_document) for of_document in chunks], dtype=np.int64))
        is_split = keys[1] > 0
        number_of = np.where(is_split, np.diff(of_key), 0)
        place_of = np.where(is_split, len(documents.texts) + offsets_of(number_of)[:-1], keys[0])
        lengths = np.diff(of_key)[key_at]
        document_at = positions_of(place_of[key_at], lengths)
        again = self.join(queries, both, np.repeat(texts.query_at, lengths), document_at)
        bounds = np.array([(chunk.start, chunk.stop, 0) for each in chunks for chunk in each], dtype=np.int32)
        bounds = bounds.reshape(-1, 3)[positions_of(of_key[:-1][key_at], lengths)]
        bounds[:, 2] = again.document_tokens
        read = np.array([tokens_in(of_document) for of_document in chunks], dtype=np.int64)[key_at]
        read = np.where(is_long, read, pairs.document_tokens)
        is_piece_cut = np.logical_or.reduceat(again.is_cut, offsets_of(lengths)[:-1]) if len(lengths) else again.is_cut
        return _Chunked(again, lengths, bounds, is_piece_cut | (read < whole_tokens), read)

    def _ends(self, documents: EncodedTexts) -> list[int]:
        """The character at which each document ends, cut to the item limit."""
        ends = [len(text) for text in documents.texts]
        cut = np.flatnonzero(documents.is_cut).tolist()
        starts = self.encoder.token_starts([documents.texts[at] for at in cut], max_tokens=self.limits.max_item_tokens)
        for at, of_text in zip(cut, starts, strict=True):
            ends[at] = int(of_text[-1])
        return ends

    def _chunks(self, documents: EncodedTexts, keys: npt.NDArray[np.int64], ends: Sequence[int]) -> list[list[Chunk]]:
        """Of each document and window, its chunks; a window of 0 is a document that is not split."""
        split = [(document, window) for document, window in keys.T.tolist() if window]
        starts = self.encoder.token_starts(
            [documents.texts[document] for document, _ in split], max_tokens=self.limits.max_item_tokens
        )
        cut = [
            cut_chunks(documents.texts[document], of_text.astype(np.int64), window)
            for (document, window), of_text in zip(split, starts, strict=True)
        ]
        remaining = iter(cut)
        lengths = documents.tokens.lengths
        return [
            next(remaining) if window else [Chunk(0, ends[document], 0, int(lengths[document]))]
            for document, window in keys.T.tolist()
        ]

    def _encode_chunks(
        self, documents: EncodedTexts, keys: npt.NDArray[np.int64], chunks: Sequence[list[Chunk]]
    ) -> EncodedTexts:
        """The chunks of documents that are split. One that has more tokens alone than its window is made shorter."""
        split = [
            (chunks[at], number, documents.texts[document], window)
            for at, (document, window) in enumerate(keys.T.tolist())
            for number in range(len(chunks[at]) if window else 0)
        ]
        windows = np.array([window for *_, window in split], dtype=np.int64)
        for slack in range(_FITTING_ROUNDS):
            texts = [text[of[number].start : of[number].stop] for of, number, text, _ in split]
            encoded = self.encoder.encode_texts(texts, max_tokens=None)
            over = encoded.tokens.lengths - windows
            long = np.flatnonzero(over > 0).tolist()
            if not long or slack == _FITTING_ROUNDS - 1:
                break
            starts = self.encoder.token_starts([texts[place] for place in long], max_tokens=None)
            for place, of_text in zip(long, starts, strict=True):
                of, number, *_ = split[place]
                of[number] = _shortened(of[number], of_text, int(over[place]) + slack, at_start=number == len(of) - 1)
        return encoded


def _shortened(chunk: Chunk, starts: npt.NDArray[np.int32], over: int, *, at_start: bool) -> Chunk:
    """Without its last tokens, or its first ones; one token is kept."""
    over = min(over, len(starts) - 2)
    if at_start:
        return replace(chunk, start=chunk.start + int(starts[over]), first=chunk.first + over)
    return replace(chunk, stop=chunk.start + int(starts[-1 - over]), last=chunk.last - over)


def _joined(one: EncodedTexts, other: EncodedTexts) -> EncodedTexts:
    values = np.concatenate([one.tokens.values, other.tokens.values])
    offsets = offsets_of(np.concatenate([one.tokens.lengths, other.tokens.lengths]))
    is_cut = np.concatenate([one.is_cut, other.is_cut])
    return EncodedTexts(Ragged(values, offsets), is_cut, [*one.texts, *other.texts])
