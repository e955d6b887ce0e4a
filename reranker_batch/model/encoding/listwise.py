"""Prompts of listwise models: the documents of a request in blocks, token for token as the vendor's code makes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.pairs import BoolArray, EncodedPairs, EncodedTexts, PairEncoder
from reranker_batch.core.ragged import LongArray, Ragged, offsets_of
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import PAIRS, PLAIN_TEXTS, TEXTS
from reranker_batch.model.encoding.control_tokens import find_control_tokens
from reranker_batch.model.encoding.prompting import added_later, control_ids, control_tokens_in
from reranker_batch.model.encoding.text_reader import TextReader, concatenate, spell_tokens
from reranker_batch.model.recipes import ListPrompt, Piece, Recipe

Request = tuple[str, Sequence[str]]
"""A query and its documents."""
_MOST_REPEATS = 100
_CANARIES: tuple[Request, ...] = (
    *((query, (document,)) for query, document in PAIRS),
    (TEXTS[0], TEXTS),
    (TEXTS[3], TEXTS[::-1]),
)


@dataclass(frozen=True)
class _Part:
    """A part of the prompt: its text between control tokens, and their ids. `stretches` is one longer."""

    stretches: tuple[Piece, ...]
    controls: tuple[int, ...]

    @classmethod
    def of(cls, text: str, backend: Tokenizer) -> _Part:
        spelled = control_tokens_in(text)
        stretches = re.split("|".join(map(re.escape, spelled)), text) if spelled else [text]
        ids = [backend.token_to_id(token) for token in spelled]
        return cls(tuple(map(Piece.parse, stretches)), tuple(item for item in ids if item is not None))


@dataclass(frozen=True)
class _Kept:
    """Texts without marks, cut to what a block has room for, and their tokens."""

    texts: list[str]
    lengths: LongArray
    is_cut: BoolArray


@dataclass(frozen=True)
class ListPairEncoder:
    """Puts blocks together: each stretch of the prompt between two control tokens is read as one text.

    The first tokens of a document depend on the text before it, so a document is read alone only to count its tokens.
    A document or a query that is too long is cut at the character where its last token ends.
    """

    reader: TextReader
    prompt: ListPrompt
    instruct: str
    """What the prompt says of the instruction; empty where there is none."""
    parts: tuple[_Part, _Part, _Part]
    """Head, passage and tail."""
    max_pair_tokens: int
    answer_ids: tuple[int, ...] = ()
    is_listwise = True

    @property
    def num_special_tokens(self) -> int:
        """Tokens of the prompt of one empty document and an empty query."""
        return len(self._ids([("", [""])])[0])

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can have."""
        return self.reader.input_id_limit(self._controls)

    def describe(self, inputs: ModelInputs) -> list[tuple[str, str]]:
        """Rows that show how a block is made."""
        prompt = self.prompt
        head = prompt.head.replace("{instruct}", self.instruct)
        template = "\n".join(part.replace("\n", "\\n") for part in (head, prompt.passage, prompt.tail))
        query, document = self._maxima(self.max_pair_tokens)
        block = f"at most {prompt.max_documents} documents of {document:,} tokens and a query of {query:,}"
        marks = " and ".join(f"{mark} ({self.reader.backend.token_to_id(mark)})" for mark in prompt.marks[::-1])
        return [("template", template), ("a block", block), ("logit", f"the cosine of the states at {marks}")]

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        return EncodedTexts(*self.reader.read_cut(self._bare(texts), max_tokens=max_tokens), texts)

    def token_starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        bare = self._bare(texts)
        starts = self.reader.starts(bare, max_tokens=max_tokens)
        if bare == list(texts):
            return starts
        return Ragged.from_lists(
            _places_without(text, self.prompt.marks)[of_text] for text, of_text in zip(texts, starts, strict=True)
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
        firsts = np.arange(len(query_at), dtype=np.int64) if starts is None else starts
        of_query, of_document = self._maxima(max_pair_tokens)
        query, document = self._kept(queries, of_query), self._kept(documents, of_document)
        blocks: list[tuple[str, list[str]]] = []
        num_blocks = np.zeros(len(firsts), dtype=np.int64)
        for place, (first, stop) in enumerate(pairwise([*firsts.tolist(), len(query_at)])):
            of_request = document_at[first:stop].tolist()
            asked = int(query_at[first])
            capacity = max_pair_tokens - 2 * int(query.lengths[asked])
            for at in self._cut(document.lengths[of_request].tolist(), capacity, of_document):
                blocks.append((query.texts[asked], [document.texts[item] for item in of_request[at]]))
                num_blocks[place] += 1
        ids = self._ids(blocks)
        return EncodedPairs(
            inputs=RequestInputs(ids, self._marks(ids), offsets_of(num_blocks), query_at[firsts]),
            query_tokens=query.lengths[query_at].astype(np.int32),
            document_tokens=document.lengths[document_at].astype(np.int32),
            is_cut=query.is_cut[query_at] | document.is_cut[document_at],
        )

    def _maxima(self, max_tokens: int) -> tuple[int, int]:
        """Tokens that a query and a document may have, where `max_tokens` are read at once."""
        return min(self.prompt.max_query_tokens, max_tokens // 8), min(self.prompt.max_document_tokens, max_tokens // 2)

    def _bare(self, texts: Sequence[str]) -> list[str]:
        """Texts without marks."""
        first, then = self.prompt.marks
        return [text.replace(first, "").replace(then, "") for text in texts]

    def _kept(self, texts: EncodedTexts, limit: int) -> _Kept:
        lengths = np.minimum(texts.tokens.lengths, limit)
        is_cut = lengths < texts.tokens.lengths
        kept = self._bare(texts.texts)
        for at in np.flatnonzero(is_cut | texts.is_cut).tolist():
            starts = self.reader.starts([kept[at]], max_tokens=int(lengths[at]))[0]
            kept[at] = kept[at][: starts[-1]]
        return _Kept(kept, lengths, is_cut)

    def _cut(self, document_tokens: Sequence[int], capacity: int, max_document: int) -> Iterator[slice]:
        """The documents of each block, which is full when another document of the greatest length might not fit."""
        start, spent = 0, 0
        for place, tokens in enumerate(document_tokens, 1):
            spent += tokens
            if place - start == self.prompt.max_documents or capacity - spent <= max_document:
                yield slice(start, place)
                start, spent = place, 0
        if start < len(document_tokens):
            yield slice(start, len(document_tokens))

    @property
    def _controls(self) -> tuple[int, ...]:
        return tuple(sorted({token_id for part in self.parts for token_id in part.controls}))

    def _ids(self, blocks: Sequence[tuple[str, Sequence[str]]]) -> Ragged:
        """The ids of blocks, each of a query and documents. Equal stretches are read once."""
        controls = self._controls
        numbers: dict[str, int] = {}
        pieces: list[int] = []
        ends = [0]
        for query, documents in blocks:
            stretches, between = self._block(query, documents)
            for stretch, control in zip(stretches, [*between, None], strict=True):
                pieces.append(numbers.setdefault(stretch, len(numbers) + len(controls)))
                if control is not None:
                    pieces.append(controls.index(control))
            ends.append(len(pieces))
        table = concatenate([Ragged.from_lists([[control] for control in controls]), self.reader.read(list(numbers))])
        taken = table.take(np.array(pieces, dtype=np.int64))
        return Ragged(taken.values, taken.offsets[ends])

    def _block(self, query: str, documents: Sequence[str]) -> tuple[list[str], list[int]]:
        """The stretches of text of a block, and the control tokens between them."""
        stretches, controls = [""], list[int]()
        head, passage, tail = self.parts
        around = {"query": query, "instruct": self.instruct, "documents": str(len(documents))}
        passages = ((passage, {"document": text, "number": str(at)}) for at, text in enumerate(documents))
        for part, values in ((head, around), *passages, (tail, around)):
            first, *rest = (piece.fill(values) for piece in part.stretches)
            stretches[-1] += first
            stretches += rest
            controls += part.controls
        return stretches, controls

    def _marks(self, ids: Ragged) -> Ragged:
        """Places of the mark behind each document of a block, then of the last mark behind its query."""
        to_id = self.reader.backend.token_to_id
        is_mark = ids.values == to_id(self.prompt.document_mark)
        of_query = np.flatnonzero(ids.values == to_id(self.prompt.query_mark))
        block = np.searchsorted(ids.offsets, of_query, side="right") - 1
        is_mark[of_query[np.diff(block, append=len(ids)) > 0]] = True
        marks = np.flatnonzero(is_mark)
        offsets = np.searchsorted(marks, ids.offsets)
        return Ragged((marks - np.repeat(ids.offsets[:-1], np.diff(offsets))).astype(np.int32), offsets)


def _places_without(text: str, marks: Sequence[str]) -> LongArray:
    """Where each character of the text without marks stands in the text, and where it ends."""
    places = np.arange(len(text) + 1, dtype=np.int64)
    for mark in marks:
        is_kept = np.ones(len(text) + 1, dtype=np.bool_)
        for match in re.finditer(re.escape(mark), text):
            is_kept[match.start() : match.end()] = False
        places, text = places[is_kept], text.replace(mark, "")
    return places


def encode_text_requests(encoder: PairEncoder, requests: Sequence[Request]) -> EncodedPairs:
    """Model inputs of a few requests given as text."""
    lengths = np.array([len(documents) for _, documents in requests], dtype=np.int64)
    query_at = np.repeat(np.arange(len(requests), dtype=np.int64), lengths)
    queries = encoder.encode_texts([query for query, _ in requests], max_tokens=None)
    documents = encoder.encode_texts([text for _, texts in requests for text in texts], max_tokens=None)
    return encoder.encode_pairs(
        queries,
        documents,
        query_at,
        np.arange(len(query_at), dtype=np.int64),
        max_pair_tokens=encoder.max_pair_tokens,
        starts=offsets_of(lengths)[:-1],
    )


def trial_requests(encoder: PairEncoder, *, reach: int) -> list[Request]:
    """Requests of different lengths to compare forward passes on, the longest of more than `reach` tokens."""
    long = " ".join(PLAIN_TEXTS)
    repeats = 1 + reach // len(encoder.encode_texts([long], max_tokens=None).tokens.values)
    return [
        (PLAIN_TEXTS[0], PLAIN_TEXTS[1:2]),
        (PLAIN_TEXTS[1], ["", *PLAIN_TEXTS[3:6]]),
        (PLAIN_TEXTS[2], [*PLAIN_TEXTS, *[long] * min(repeats, _MOST_REPEATS)]),
    ]


def load_list_encoder(
    backend: Tokenizer, special_ids: Collection[int], raw: Tokenizer, *, recipe: Recipe, max_pair_tokens: int
) -> ListPairEncoder:
    """The encoder of a listwise recipe, checked on canary requests against the prompt read as one text by `raw`.

    Raises:
        ModelError: The tokenizer lacks a control token of the prompt, or blocks would differ from those of the vendor's
            code, or the model reads too few tokens.
    """
    prompt = recipe.required_list_prompt
    texts = (prompt.head, prompt.passage, prompt.tail)
    control = control_ids(backend, "".join(texts), recipe.name) | added_later(backend)
    head, passage, tail = (_Part.of(text, backend) for text in texts)
    encoder = ListPairEncoder(
        reader=TextReader(backend, find_control_tokens(backend, special_ids, control)),
        prompt=prompt,
        instruct=prompt.instruct_text(recipe.instruct),
        parts=(head, passage, tail),
        max_pair_tokens=max_pair_tokens,
    )
    if max_pair_tokens // 4 <= encoder.num_special_tokens:
        raise ModelError(
            f"The prompt of the recipe {recipe.name} takes {encoder.num_special_tokens} tokens, and the model reads "
            f"{max_pair_tokens} at once: too little would be left for query and documents. Compare model_max_length in "
            "tokenizer_config.json and max_position_embeddings in config.json with the source."
        )
    _require_reproduction(encoder, raw, recipe.name)
    return encoder


def _require_reproduction(encoder: ListPairEncoder, raw: Tokenizer, recipe: str) -> None:
    ours = encoder._ids(_CANARIES)
    for at, (query, documents) in enumerate(_CANARIES):
        theirs = _read_whole(raw, _whole_text(encoder, query, documents))
        if ours[at].tolist() != theirs:
            raise ModelError(
                f"The prompt of the recipe {recipe} cannot be put together for this tokenizer: with {query!r} and "
                f"{documents[0]!r} it gives other ids ({spell_tokens(encoder.reader.backend, ours[at][-12:])}) than "
                f"the whole text does ({spell_tokens(encoder.reader.backend, theirs[-12:])}). Use the tokenizer that "
                "the model was published with."
            )


def _whole_text(encoder: ListPairEncoder, query: str, documents: Sequence[str]) -> str:
    prompt = encoder.prompt
    head, passage, tail = (Piece.parse(text) for text in (prompt.head, prompt.passage, prompt.tail))
    around = {"query": query, "instruct": encoder.instruct, "documents": str(len(documents))}
    passages = (passage.fill({"number": str(at), "document": text}) for at, text in enumerate(documents))
    return "".join((head.fill(around), *passages, tail.fill(around)))


def _read_whole(backend: Tokenizer, text: str) -> list[int]:
    """The ids of a text whose control tokens are read as such."""
    backend.encode_special_tokens = False
    try:
        ids: list[int] = backend.encode(text).ids
        return ids
    finally:
        backend.encode_special_tokens = True
