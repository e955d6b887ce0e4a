"""Texts to the prompts of generative rerankers: token for token what the vendor's code makes, each text read once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.inputs import TokenInputs, as_tokens
from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, max_query_tokens
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import PAIRS
from reranker_batch.model.encoding.control_tokens import find_control_tokens
from reranker_batch.model.encoding.text_reader import TextReader, spell_tokens
from reranker_batch.model.recipes import Piece, Prompt, Recipe

_LEAD = " "
"""What stands before a query and a document in every prompt. Read together with the text, as one word with it."""
_ANY_LENGTH = 1 << 30
_CONTROL = re.compile(r"<\|\w+\|>|</?think>|<bos>")


@dataclass(frozen=True)
class PromptLayout:
    """A prompt around a query and a document: ids of what is read apart, and the texts beside the query.

    `bare_before` and `bare_after` are the ids of those two texts read without a query between them.
    """

    head: tuple[int, ...]
    before_query: str
    after_query: str
    bare_before: tuple[int, ...]
    bare_after: tuple[int, ...]
    middle: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def constant_ids(self) -> tuple[int, ...]:
        return self.head + self.bare_before + self.bare_after + self.middle + self.tail

    def opening(self, query_ids: IntArray) -> tuple[int, ...]:
        """What stands before the document, from the ids of a query."""
        return (*self.head, *self.bare_before, *query_ids, *self.bare_after, *self.middle)


@dataclass(frozen=True)
class PromptPairEncoder:
    """Puts prompts together: what stands before the document once a query, then the document, then the end.

    The ids before the document are those of the text as a whole, since a tokenizer may join the end of a query
    with what follows it. They are the prefix of a pair, equal for all documents of a query.

    Of a pair that is too long the query is capped as in any other pair, and the document gets the rest; the end
    of the prompt is never cut. Tokens of a text are counted as they stand in the prompt, behind a space.
    """

    reader: TextReader
    prompt: Prompt
    layout: PromptLayout
    max_pair_tokens: int
    answer_ids: tuple[int, ...]
    """The tokens whose logits are the answer: the positive one, and the negative one if the recipe has one."""

    @property
    def num_special_tokens(self) -> int:
        return len(self.layout.constant_ids)

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can hold."""
        return self.reader.input_id_limit(self.layout.constant_ids)

    def describe(self, inputs: TokenInputs) -> list[tuple[str, str]]:
        """Rows that show how the first of `inputs` is made."""
        answers = " minus ".join(f"{spell_tokens(self.reader.backend, [item])} ({item})" for item in self.answer_ids)
        return [
            ("template", "\n".join(piece.replace("\n", "\\n") for piece in self.prompt.pieces)),
            ("shared by a query", f"the first {inputs.prefix_tokens[0]} ids"),
            ("logit", f"of {answers}"),
        ]

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        return EncodedTexts(*self.reader.read_cut([_LEAD + text for text in texts], max_tokens=max_tokens), texts)

    def encode_pairs(
        self,
        queries: EncodedTexts,
        documents: EncodedTexts,
        query_at: LongArray,
        document_at: LongArray,
        *,
        max_pair_tokens: int,
    ) -> EncodedPairs:
        query_tokens, document_tokens = queries.tokens.lengths[query_at], documents.tokens.lengths[document_at]
        cap = max_query_tokens(max_pair_tokens)
        whole = self._openings(queries)
        room = max_pair_tokens - len(self.layout.tail)
        is_over = whole.lengths[query_at] + document_tokens > room
        is_capped = is_over & ((query_tokens > cap) | (whole.lengths[query_at] > room))
        prefixes, prefix_at = whole, query_at
        if is_capped.any():
            prefixes = self._with_capped(whole, queries, cap)
            prefix_at = np.where(is_capped, query_at + len(whole), query_at)
        prefix_tokens = prefixes.lengths[prefix_at]
        kept_document = np.minimum(document_tokens, room - prefix_tokens)
        kept_query = np.where(is_capped, np.minimum(query_tokens, cap), query_tokens)
        ids = _assemble(prefixes, prefix_at, documents.tokens, document_at, kept_document, self.layout.tail)
        return EncodedPairs(
            inputs=TokenInputs(
                ids=ids,
                groups=prefixes.distinct()[1][prefix_at],
                first_type_tokens=ids.lengths.astype(np.int32),
                prefix_tokens=prefix_tokens.astype(np.int32),
            ),
            query_tokens=kept_query.astype(np.int32),
            document_tokens=kept_document.astype(np.int32),
            is_cut=(kept_query < query_tokens) | (kept_document < document_tokens),
        )

    def _openings(self, queries: EncodedTexts) -> Ragged:
        """All ids before the document, for each query; those of one that was cut are put together from ids."""
        layout = self.layout
        texts = [
            "" if is_cut else layout.before_query + _LEAD + text + layout.after_query
            for text, is_cut in zip(queries.texts, queries.is_cut, strict=True)
        ]
        read = self.reader.read(texts)
        return Ragged.from_lists(
            layout.opening(queries.tokens[at]) if is_cut else (*layout.head, *read[at], *layout.middle)
            for at, is_cut in enumerate(queries.is_cut)
        )

    def _with_capped(self, whole: Ragged, queries: EncodedTexts, cap: int) -> Ragged:
        """The openings of all queries, then those of all queries capped."""
        capped = Ragged.from_lists(self.layout.opening(queries.tokens[at][:cap]) for at in range(len(whole)))
        values = np.concatenate([whole.values, capped.values])
        return Ragged(values, offsets_of(np.concatenate([whole.lengths, capped.lengths])))


def _assemble(
    openings: Ragged,
    opening_at: LongArray,
    documents: Ragged,
    document_at: LongArray,
    kept_document: LongArray,
    tail: tuple[int, ...],
) -> Ragged:
    opening_tokens = openings.lengths[opening_at]
    offsets = offsets_of(opening_tokens + kept_document + len(tail))
    values = np.empty(offsets[-1], dtype=np.int32)
    cursor = offsets[:-1]
    for source, at, kept in ((openings, opening_at, opening_tokens), (documents, document_at, kept_document)):
        values[positions_of(cursor, kept)] = source.values[positions_of(source.offsets[at], kept)]
        cursor = cursor + kept
    for shift, token_id in enumerate(tail):
        values[cursor + shift] = token_id
    return Ragged(values, offsets)


def load_prompt_encoder(
    backend: Tokenizer, special_ids: Collection[int], *, recipe: Recipe, max_pair_tokens: int
) -> PromptPairEncoder:
    """The encoder of a recipe with a prompt, tried on canary pairs against the prompt read piece by piece.

    Raises:
        ModelError: The tokenizer lacks a control token of the prompt, an answer is not one token, or pairs would
            come out otherwise than by the vendor's code.
    """
    prompt = recipe.required_prompt
    control_ids = _control_ids(backend, prompt, recipe.name) | _added_later(backend)
    reader = TextReader(backend, find_control_tokens(backend, special_ids, control_ids))
    instruct = prompt.instruct_text(recipe.instruct)
    encoder = PromptPairEncoder(
        reader=reader,
        prompt=prompt,
        layout=_lay_out(prompt, reader, instruct),
        max_pair_tokens=max_pair_tokens,
        answer_ids=tuple(
            _answer_id(backend, answer, recipe.name) for answer in (prompt.positive, prompt.negative) if answer
        ),
    )
    if max_pair_tokens // 4 <= encoder.num_special_tokens:
        raise ModelError(
            f"The prompt of the recipe {recipe.name} takes {encoder.num_special_tokens} tokens, and the model reads "
            f"{max_pair_tokens}: too little would be left for query and document."
        )
    _require_reproduction(encoder, instruct, recipe.name)
    return encoder


def _control_ids(backend: Tokenizer, prompt: Prompt, recipe: str) -> set[int]:
    """Ids of the control tokens in the prompt's own text."""
    added = backend.get_added_tokens_decoder()
    found: set[int] = set()
    for spelled in _CONTROL.findall("".join(prompt.pieces)):
        token_id = backend.token_to_id(spelled)
        if token_id is None or token_id not in added:
            raise ModelError(
                f"The tokenizer does not know {spelled}, which the prompt of the recipe {recipe} needs. The model "
                "is not of this family, or its tokenizer is not the one it was trained with."
            )
        found.add(token_id)
    return found


def _added_later(backend: Tokenizer) -> set[int]:
    """Tokens that the vocabulary was given after its training, such as <tool_call>: not special, yet no text either."""
    trained = backend.get_vocab(with_added_tokens=False)
    return {
        token_id
        for token_id, token in backend.get_added_tokens_decoder().items()
        if token.content not in trained and token.content.strip()
    }


def _answer_id(backend: Tokenizer, answer: str, recipe: str) -> int:
    ids: list[int] = backend.encode(answer, add_special_tokens=False).ids
    if len(ids) != 1 or backend.id_to_token(ids[0]) != answer:
        raise ModelError(
            f"The answer {answer!r} of the recipe {recipe} is not one token of this tokenizer but {ids}. The "
            "model is not of this family, or its tokenizer is not the one it was trained with."
        )
    return ids[0]


def _lay_out(prompt: Prompt, reader: TextReader, instruct: str) -> PromptLayout:
    pieces = prompt.parsed()
    of_query = next(at for at, piece in enumerate(pieces) if "query" in piece.fields)
    of_document = next(at for at, piece in enumerate(pieces) if "document" in piece.fields)
    values = {"instruct": instruct, "query": "", "document": ""}
    before_query = pieces[of_query].before("query", values).removesuffix(_LEAD)
    if of_query == of_document:
        after_query = pieces[of_query].between("query", "document").removesuffix(_LEAD)
        middle: tuple[int, ...] = ()
    else:
        after_query = pieces[of_query].after("query", values)
        label = pieces[of_document].before("document", values).removesuffix(_LEAD)
        middle = _constant(pieces[of_query + 1 : of_document], reader) + _text(label, reader)
    return PromptLayout(
        head=_constant(pieces[:of_query], reader),
        before_query=before_query,
        after_query=after_query,
        bare_before=_text(before_query, reader),
        bare_after=_text(after_query, reader),
        middle=middle,
        tail=_constant(pieces[of_document + 1 :], reader),
    )


def _constant(pieces: Iterable[Piece], reader: TextReader) -> tuple[int, ...]:
    """Ids of pieces without texts of others, control tokens read as such."""
    backend = reader.backend
    backend.encode_special_tokens = False
    try:
        return tuple(
            chain.from_iterable(backend.encode(piece.fill({}), add_special_tokens=False).ids for piece in pieces)
        )
    finally:
        backend.encode_special_tokens = True


def _text(text: str, reader: TextReader) -> tuple[int, ...]:
    return tuple(reader.read([text]).values.tolist())


def read_prompt(encoder: PromptPairEncoder, *, instruct: str, query: str, document: str) -> list[int]:
    """The ids of one prompt by the letter of the recipe: every piece filled and read apart."""
    values = {"instruct": instruct, "query": query, "document": document}
    parts = (
        _text(piece.fill(values), encoder.reader) if piece.fields else _constant([piece], encoder.reader)
        for piece in encoder.prompt.parsed()
    )
    return list(chain.from_iterable(parts))


def _require_reproduction(encoder: PromptPairEncoder, instruct: str, recipe: str) -> None:
    at = np.arange(len(PAIRS), dtype=np.int64)
    queries = encoder.encode_texts([query for query, _ in PAIRS], max_tokens=None)
    documents = encoder.encode_texts([document for _, document in PAIRS], max_tokens=None)
    ours = as_tokens(encoder.encode_pairs(queries, documents, at, at, max_pair_tokens=_ANY_LENGTH).inputs).ids
    for place, (query, document) in enumerate(PAIRS):
        theirs = read_prompt(encoder, instruct=instruct, query=query, document=document)
        if ours[place].tolist() != theirs:
            raise ModelError(
                f"The prompt of the recipe {recipe} cannot be put together for this tokenizer: with {query!r} and "
                f"{document!r} it gives other ids than the whole text does. Use the tokenizer that the model was "
                "published with."
            )
