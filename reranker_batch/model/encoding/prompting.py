"""Prompts of generative rerankers, token for token as the vendor's code makes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.inputs import ModelInputs, TokenInputs, as_tokens
from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, max_query_tokens
from reranker_batch.core.ragged import LongArray, Ragged, offsets_of, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import PAIRS
from reranker_batch.model.encoding.control_tokens import find_control_tokens
from reranker_batch.model.encoding.prompt_parts import PromptParts, read_prompt, split_prompt
from reranker_batch.model.encoding.text_reader import TextReader, spell_tokens
from reranker_batch.model.recipes import Prompt, Recipe

_ANY_LENGTH = 1 << 30
_CONTROL = re.compile(r"<\|\w+\|>|</?think>|<bos>")


@dataclass(frozen=True)
class PromptPairEncoder:
    """Puts prompts together: the prefix, which is read once per query, then the document, then the suffix.

    The prefix is all that stands before the document. Its ids are those of the text read as a whole, since a tokenizer
    may join the end of a query with what follows it. All documents of a query share it.

    If a pair is too long, the query is capped as in any other pair and the document gets the rest; the suffix is never
    cut. Tokens of a text are counted as they stand in the prompt, after its lead.
    """

    reader: TextReader
    prompt: Prompt
    instruct: str
    """What the prompt says of the instruction; empty where there is none."""
    parts: PromptParts
    max_pair_tokens: int
    answer_ids: tuple[int, ...]
    """The tokens whose logits are the answer: the positive one, and the negative one if the recipe has one; none for a
    model with a label."""
    is_listwise = False

    @property
    def num_special_tokens(self) -> int:
        return len(self.parts.constant_ids)

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can have."""
        return self.reader.input_id_limit(self.parts.constant_ids)

    def describe(self, inputs: ModelInputs) -> list[tuple[str, str]]:
        """Rows that show how the first of `inputs` is made."""
        pieces = self.prompt.pieces_for(self.instruct)
        template = ("template", "\n".join(piece.replace("\n", "\\n") for piece in pieces))
        if not self.answer_ids:
            return [template]
        answers = " minus ".join(f"{spell_tokens(self.reader.backend, [item])} ({item})" for item in self.answer_ids)
        return [
            template,
            ("shared by a query", f"the first {as_tokens(inputs).prefix_tokens[0]} ids"),
            ("logit", f"of {answers}"),
        ]

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        return EncodedTexts(*self.reader.read_cut(self._led(texts), max_tokens=max_tokens), texts)

    def token_starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        starts = self.reader.starts(self._led(texts), max_tokens=max_tokens)
        ends = np.repeat([len(text) for text in texts], starts.lengths)
        return Ragged(np.clip(starts.values - len(self.prompt.lead), 0, ends).astype(np.int32), starts.offsets)

    def _led(self, texts: Sequence[str]) -> list[str]:
        """Texts as they stand in the prompt."""
        return [self.prompt.lead + (text or self.prompt.empty) for text in texts]

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
        query_tokens, document_tokens = queries.tokens.lengths[query_at], documents.tokens.lengths[document_at]
        cap = max_query_tokens(max_pair_tokens)
        whole = self._prefixes(queries)
        budget = max_pair_tokens - len(self.parts.suffix)
        is_over = whole.lengths[query_at] + document_tokens > budget
        is_capped = is_over & ((query_tokens > cap) | (whole.lengths[query_at] > budget))
        prefixes, prefix_at = whole, query_at
        if is_capped.any():
            prefixes = self._with_capped(whole, queries, cap)
            prefix_at = np.where(is_capped, query_at + len(whole), query_at)
        prefix_tokens = prefixes.lengths[prefix_at]
        kept_document = np.minimum(document_tokens, budget - prefix_tokens)
        kept_query = np.where(is_capped, np.minimum(query_tokens, cap), query_tokens)
        ids = _assemble(prefixes, prefix_at, documents.tokens, document_at, kept_document, self.parts.suffix)
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

    def _prefixes(self, queries: EncodedTexts) -> Ragged:
        """The prefix of each query; that of a query that was cut is put together from ids."""
        parts = self.parts
        texts = [
            "" if is_cut else parts.before_query + parts.query_lead + (text or self.prompt.empty) + parts.after_query
            for text, is_cut in zip(queries.texts, queries.is_cut, strict=True)
        ]
        read = self.reader.read(texts)
        return Ragged.from_lists(
            self._cut_prefix(queries, at, len(queries.tokens[at]))
            if is_cut
            else (*parts.system, *read[at], *parts.label)
            for at, is_cut in enumerate(queries.is_cut)
        )

    def _with_capped(self, whole: Ragged, queries: EncodedTexts, cap: int) -> Ragged:
        """The prefixes of all queries, then those of all queries capped."""
        capped = Ragged.from_lists(self._cut_prefix(queries, at, cap) for at in range(len(whole)))
        values = np.concatenate([whole.values, capped.values])
        return Ragged(values, offsets_of(np.concatenate([whole.lengths, capped.lengths])))

    def _cut_prefix(self, queries: EncodedTexts, at: int, cap: int) -> tuple[int, ...]:
        """The prefix of a query that keeps so many tokens."""
        ids = queries.tokens[at][:cap]
        if not self.parts.query_lead:
            ids = self.reader.read_cut([queries.texts[at]], max_tokens=len(ids))[0][0]
        return self.parts.prefix(ids)


def _assemble(
    prefixes: Ragged,
    prefix_at: LongArray,
    documents: Ragged,
    document_at: LongArray,
    kept_document: LongArray,
    suffix: tuple[int, ...],
) -> Ragged:
    prefix_tokens = prefixes.lengths[prefix_at]
    offsets = offsets_of(prefix_tokens + kept_document + len(suffix))
    values = np.empty(offsets[-1], dtype=np.int32)
    cursor = offsets[:-1]
    for source, at, kept in ((prefixes, prefix_at, prefix_tokens), (documents, document_at, kept_document)):
        values[positions_of(cursor, kept)] = source.values[positions_of(source.offsets[at], kept)]
        cursor = cursor + kept
    for shift, token_id in enumerate(suffix):
        values[cursor + shift] = token_id
    return Ragged(values, offsets)


def load_prompt_encoder(
    backend: Tokenizer, special_ids: Collection[int], *, recipe: Recipe, max_pair_tokens: int
) -> PromptPairEncoder:
    """The encoder of a recipe with a prompt, checked on canary pairs against the prompt read piece by piece.

    Raises:
        ModelError: The tokenizer lacks a control token of the prompt, an answer is not one token, or pairs
            would differ from those of the vendor's code.
    """
    prompt = recipe.required_prompt
    text = "".join([*prompt.pieces, *(prompt.instructed_pieces or ())])
    control = control_ids(backend, text, recipe.name) | added_later(backend)
    reader = TextReader(backend, find_control_tokens(backend, special_ids, control))
    instruct = prompt.instruct_text(recipe.instruct)
    encoder = PromptPairEncoder(
        reader=reader,
        prompt=prompt,
        instruct=instruct,
        parts=split_prompt(prompt, reader, instruct),
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
    _require_reproduction(encoder, recipe.name)
    return encoder


def control_tokens_in(prompt: str) -> list[str]:
    """The control tokens that the text of a prompt contains, in order."""
    return _CONTROL.findall(prompt)


def control_ids(backend: Tokenizer, prompt: str, recipe: str) -> set[int]:
    """Ids of the control tokens that the text of a prompt contains.

    Raises:
        ModelError: One of them is no single token of its own.
    """
    added = backend.get_added_tokens_decoder()
    ids: set[int] = set()
    for spelled in control_tokens_in(prompt):
        token_id = backend.token_to_id(spelled)
        if token_id is None or token_id not in added:
            raise ModelError(
                f"The tokenizer does not know {spelled}, which the prompt of the recipe {recipe} needs. The model "
                "is not of this family, or its tokenizer is not the one it was trained with."
            )
        ids.add(token_id)
    return ids


def added_later(backend: Tokenizer) -> set[int]:
    """Tokens added to the vocabulary after its training, such as <tool_call>: not special, but not text either."""
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


def _require_reproduction(encoder: PromptPairEncoder, recipe: str) -> None:
    at = np.arange(len(PAIRS), dtype=np.int64)
    queries = encoder.encode_texts([query for query, _ in PAIRS], max_tokens=None)
    documents = encoder.encode_texts([document for _, document in PAIRS], max_tokens=None)
    ours = as_tokens(encoder.encode_pairs(queries, documents, at, at, max_pair_tokens=_ANY_LENGTH).inputs).ids
    for place, (query, document) in enumerate(PAIRS):
        theirs = read_prompt(encoder.prompt, encoder.reader, instruct=encoder.instruct, query=query, document=document)
        if ours[place].tolist() != theirs:
            raise ModelError(
                f"The prompt of the recipe {recipe} cannot be put together for this tokenizer: with {query!r} and "
                f"{document!r} it gives other ids than the whole text does. Use the tokenizer that the model was "
                "published with."
            )
