"""A job whose right answer is known without a model: bytes are tokens, and a score is a hash of two texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reranker_batch.core.activation import Activation
from reranker_batch.core.backend import Description, Device, Where
from reranker_batch.core.inputs import ModelInputs, as_tokens
from reranker_batch.core.pairs import (
    EncodedPairs,
    EncodedTexts,
    PairEncoder,
    PairScores,
    PairTemplate,
    assemble_pairs,
    ignore_progress,
)
from reranker_batch.core.ragged import IntArray, LongArray, Ragged
from reranker_batch.model.source.devices import devices_of, precision_on

FIRST_BYTE = 3
"""Ids 1 and 2 are special tokens, so a byte b is the id b + 3."""


def logit_of(query: bytes, document: bytes) -> np.float32:
    """A float32 in -8..8 from both texts; equal texts give equal logits."""
    digest = hashlib.blake2b(query + b"\x00|\x00" + document, digest_size=4).digest()
    return np.float32(int.from_bytes(digest, "big") / 2**28 - 8)


class ByteEncoder:
    """UTF-8 bytes as tokens, pairs as `<1> query <2> document <2>`."""

    template = PairTemplate(prefix=(1,), middle=(2,), suffix=(2,), first_type_extra=2)
    is_listwise = False

    def __init__(self, max_pair_tokens: int = 4096) -> None:
        self.max_pair_tokens = max_pair_tokens
        self.texts_seen: list[str] = []

    @property
    def num_special_tokens(self) -> int:
        return self.template.num_special_tokens

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        self.texts_seen += texts
        whole = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) + FIRST_BYTE for text in texts]
        cut = [ids[:max_tokens] for ids in whole]
        is_cut = np.array([len(a) > len(b) for a, b in zip(whole, cut, strict=True)], dtype=np.bool_)
        return EncodedTexts(Ragged.from_lists(cut), is_cut, texts)

    def token_starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        starts = [[at for at, char in enumerate(text) for _ in char.encode()] for text in texts]
        ends = [*map(len, texts)]
        return Ragged.from_lists(
            [*of_text, end] if max_tokens is None else [*of_text, end][: max_tokens + 1]
            for of_text, end in zip(starts, ends, strict=True)
        )

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
        return assemble_pairs(
            self.template, queries.tokens, documents.tokens, query_at, document_at, max_pair_tokens=max_pair_tokens
        )


@dataclass(frozen=True, kw_only=True)
class OracleBackend:
    """The oracle in place of a model. See `ScoringBackend`."""

    device: str = "cpu"
    dtype: str = "auto"

    activation = Activation()
    description = Description("oracle", recipe="oracle", reason="tests know the right answer")

    @property
    def resources(self) -> tuple[Device, ...]:
        return devices_of(self.device)

    def identity(self, device: Device) -> dict[str, Any]:
        """With a precision that depends on the device, as a model's."""
        return {"model": {"dtype": precision_on(device, self.dtype)}}

    def caution(self, device: Device) -> None: ...

    def operations_per_token(self) -> float:
        return 1e9

    def load_encoder(self) -> PairEncoder:
        return ByteEncoder()

    def load_scorer(self, where: Where) -> HashScorer:
        return HashScorer()

    def load_exact_scorer(self, where: Where) -> None:
        """The oracle is exact."""


class HashScorer:
    """Reads the two texts back from the ids of a pair and hashes them."""

    def encoder(self) -> PairEncoder:
        """The encoder whose inputs it reads."""
        return ByteEncoder()

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        tokens = as_tokens(inputs)
        logits = [self._one(tokens.ids[at], int(tokens.first_type_tokens[at])) for at in range(len(tokens))]
        return PairScores(np.array(logits, dtype=np.float32))

    def _one(self, ids: IntArray, document_at: int) -> np.float32:
        query = ids[1 : document_at - 1] - FIRST_BYTE
        document = ids[document_at:-1] - FIRST_BYTE
        return logit_of(query.astype(np.uint8).tobytes(), document.astype(np.uint8).tobytes())


@dataclass(frozen=True)
class Answer:
    """One kept candidate as it has to come out."""

    query_id: str
    doc_id: str
    index: int
    rank: int
    logit: np.float32


def answers(
    query_id: str,
    query: str,
    candidates: Iterable[tuple[str, str]],
    *,
    top_n: int | None = None,
    refused: Collection[int] = (),
) -> list[Answer]:
    """The kept candidates of one query by rank; texts are short enough not to be cut."""
    logits = [
        (logit_of(query.encode(), text.encode()), index, doc_id)
        for index, (doc_id, text) in enumerate(candidates)
        if index not in refused
    ]
    logits.sort(key=lambda row: (-row[0], row[1]))
    return [
        Answer(query_id, doc_id, index, rank, logit)
        for rank, (logit, index, doc_id) in enumerate(logits, start=1)
        if top_n is None or rank <= top_n
    ]
