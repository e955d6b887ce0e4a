"""The oracle of a model that reads requests: a logit is a hash of the query, of all documents and of a place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from oracle import FIRST_BYTE, ByteEncoder, HashScorer

from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, PairEncoder, PairScores, ignore_progress
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of
from reranker_batch.core.request_inputs import RequestInputs

MARK = 1
BLOCK = 3
"""Documents that are read at once."""


def list_logits(query: str, documents: Sequence[str]) -> list[np.float32]:
    """Of the documents of one request."""
    content = "\0".join([query, *documents]).encode()
    return [
        np.float32(
            int.from_bytes(hashlib.blake2b(content, digest_size=4, salt=bytes([at % 256])).digest(), "big") / 2**28
        )
        for at in range(len(documents))
    ]


def requests_of(query: str, documents: Sequence[str], limits: RequestLimits) -> list[list[str]]:
    """Documents fill a request until the next would break a limit; texts are ASCII and short enough not to be cut."""
    requests: list[list[str]] = []
    for document in documents:
        asked = [*requests[-1], document] if requests else [document]
        tokens = len(query) + sum(map(len, asked))
        is_over = limits.max_request_tokens is not None and tokens > limits.max_request_tokens
        if not requests or is_over or (limits.max_documents is not None and len(asked) > limits.max_documents):
            requests.append([document])
        else:
            requests[-1] = asked
    return requests


class ListEncoder(ByteEncoder):
    """A block is `<1> query <1> document <1> …`; the query's mark is the first, and is named last."""

    is_listwise = True

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
        firsts = np.arange(len(query_at), dtype=np.int64) if starts is None else starts
        blocks: list[list[IntArray]] = []
        counts = []
        for first, stop in zip(firsts, np.append(firsts, len(query_at))[1:], strict=True):
            cuts = range(int(first), int(stop), BLOCK)
            counts.append(len(cuts))
            for cut in cuts:
                texts = [documents.tokens[at] for at in document_at[cut : min(cut + BLOCK, stop)]]
                blocks.append([queries.tokens[query_at[first]], *texts])
        inputs = RequestInputs(
            Ragged.from_lists(np.concatenate([[MARK, *text] for text in block]) for block in blocks),
            Ragged.from_lists(_marks([len(text) for text in block]) for block in blocks),
            offsets_of(np.array(counts, dtype=np.int64)),
            query_at[firsts],
        )
        lengths = queries.tokens.lengths[query_at], documents.tokens.lengths[document_at]
        tokens = [one.astype(np.int32) for one in lengths]
        return EncodedPairs(inputs, tokens[0], tokens[1], np.zeros(len(query_at), dtype=np.bool_))


def _marks(lengths: list[int]) -> list[int]:
    places = [sum(lengths[:at]) + at for at in range(len(lengths))]
    return [*places[1:], places[0]]


class ListHashScorer(HashScorer):
    """Reads the texts of each request back and hashes them."""

    def encoder(self) -> PairEncoder:
        return ListEncoder()

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        assert isinstance(inputs, RequestInputs)
        logits = [logit for query, documents in texts_of(inputs) for logit in list_logits(query, documents)]
        return PairScores(np.array(logits, dtype=np.float32))


def texts_of(inputs: RequestInputs) -> list[tuple[str, list[str]]]:
    """Query and documents of each request."""
    requests = []
    for first, stop in zip(inputs.block_offsets[:-1].tolist(), inputs.block_offsets[1:].tolist(), strict=True):
        blocks = [_texts(inputs.ids[at]) for at in range(first, stop)]
        requests.append((blocks[0][0], [document for _, *documents in blocks for document in documents]))
    return requests


def _texts(ids: IntArray) -> list[str]:
    pieces = np.split(ids, np.flatnonzero(ids == MARK))[1:]
    return [(piece[1:] - FIRST_BYTE).astype(np.uint8).tobytes().decode() for piece in pieces]
