"""Compare the inputs of an encoder with the tokenizer and the repository's own files; refuse differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import PairEncoder
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import PLAIN_TEXTS
from reranker_batch.model.encoding.template import JoinedPair, join_pairs
from reranker_batch.model.folder.chat_templates import CANARY_PAIRS, RenderedPairs, render_pairs
from reranker_batch.model.folder.st_settings import stated_answers
from reranker_batch.model.recipes import Kind, Recipe
from reranker_batch.model.recipes.templates import compared_reading, shown, template_difference

_ANY_LENGTH = 1 << 30
_PAIRS = tuple(zip(PLAIN_TEXTS, PLAIN_TEXTS[3:] + PLAIN_TEXTS[:3], strict=True))
_REMEDY = 'Set "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json if the file is right.'


def require_same_template(folder: Path, recipe: Recipe, encoder: PairEncoder, tokenizer: Any) -> None:
    """Refuse a repository whose own template for a query and a document makes other inputs than the encoder.

    Raises:
        ModelError: It does; shows both. Or a file with a template is damaged.
    """
    templates = render_pairs(folder, recipe.resolved_instruct)
    if not templates:
        return
    reasons = [_template_difference(rendered, recipe, encoder, tokenizer) for rendered in templates]
    if all(reasons):
        raise ModelError(
            f"The repository in {folder} has a template of its own that makes other inputs: {reasons[0]}. Scores would "
            "be wrong without an error. Use the recipe that the model was trained with, set model.instruct to the "
            "repository's own instruction if only that differs, or remove the template if it is a leftover."
        )


def _template_difference(rendered: RenderedPairs, recipe: Recipe, encoder: PairEncoder, tokenizer: Any) -> str | None:
    reading = compared_reading(recipe, rendered)
    if reading is None:
        return template_difference(recipe, rendered)
    as_read, texts = reading
    if as_read != recipe:
        return None
    for text, ids in zip(texts, _encoder_ids(encoder), strict=True):
        theirs = _whole_ids(tokenizer, text)
        accepted = [theirs, _whole_ids(tokenizer, f"{text}\n")]
        if recipe.kind is Kind.TEXT:  # The tokenizer may begin the text itself.
            accepted.append(_whole_ids(tokenizer, text, add_special_tokens=True))
        if ids not in accepted:
            return f"{rendered.place} makes {shown(text)}, with the ids {shown(theirs)}, the encoder makes {shown(ids)}"
    return None


def require_same_text(
    folder: Path, recipe: Recipe, encoder: PairEncoder, tokenizer: Any, raw: Tokenizer | None
) -> None:
    """Refuse a tokenizer that puts other tokens around a text than the recipe's prompt has.

    Raises:
        ModelError: transformers' tokenizer does, or the file's; shows both.
    """
    prompt = recipe.required_prompt
    pieces = [piece for piece in prompt.parsed(prompt.instruct_text(recipe.instruct)) if piece.fields]
    for (query, document), ours in zip(CANARY_PAIRS, _encoder_ids(encoder), strict=True):
        text = "".join(piece.fill({"query": query, "document": document}) for piece in pieces)
        around = [tokenizer(text, truncation=False, verbose=False)["input_ids"]]
        around += [] if raw is None else [raw.encode(text).ids]
        theirs = next((ids for ids in around if ids != ours), None)
        if theirs is not None:
            raise ModelError(
                f"The tokenizer in {folder} makes of {shown(text)} the ids {shown(theirs)}, the recipe {recipe.name} "
                f"makes {shown(ours)}: it puts other tokens around a text than the model was trained with."
            )


def _whole_ids(tokenizer: Any, text: str, *, add_special_tokens: bool = False) -> list[int]:
    """As sentence-transformers reads a rendered template."""
    ids: list[int] = tokenizer(
        text, add_special_tokens=add_special_tokens, split_special_tokens=False, truncation=False, verbose=False
    )["input_ids"]
    return ids


def _encoder_ids(encoder: PairEncoder) -> list[list[int]]:
    at = np.arange(len(CANARY_PAIRS), dtype=np.int64)
    queries = encoder.encode_texts([query for query, _ in CANARY_PAIRS], max_tokens=None)
    documents = encoder.encode_texts([document for _, document in CANARY_PAIRS], max_tokens=None)
    pairs = encoder.encode_pairs(queries, documents, at, at, max_pair_tokens=_ANY_LENGTH)
    ids = as_tokens(pairs.inputs).ids
    return [ids[place].tolist() for place in range(len(at))]


def require_same_answers(folder: Path, answer_ids: Sequence[int]) -> None:
    """Refuse a prompt whose answers are not the tokens that the repository's own sentence-transformers files name.

    Raises:
        ModelError: They are others.
    """
    stated = stated_answers(folder)
    if stated is not None and tuple(answer_ids) != stated:
        raise ModelError(
            f"The LogitScore module in {folder} names the tokens {stated} as the answers, and the recipe reads "
            f"{tuple(answer_ids)}. The model was trained for another prompt."
        )


def require_same_pairs(raw: Tokenizer | None, tokenizer: Any, *, path: Path, reads_types: bool) -> None:
    """Refuse a tokenizer that joins pairs otherwise than its tokenizer.json says.

    transformers puts the template of a class in place of the file's. Token types count only where the model reads them.

    Raises:
        ModelError: It does; shows both.
    """
    if raw is None:
        return
    ours = join_pairs(tokenizer, [query for query, _ in _PAIRS], [document for _, document in _PAIRS])
    for pair, joined in zip(_PAIRS, ours, strict=True):
        theirs = raw.encode(*pair)
        if joined.ids != theirs.ids:
            raise _joined_otherwise(path, pair, "the ids", joined.ids, theirs.ids)
        if reads_types and joined.types != theirs.type_ids:
            raise _joined_otherwise(path, pair, "the token types", joined.types, theirs.type_ids)


def _joined_otherwise(path: Path, pair: tuple[str, str], what: str, ours: list[int], theirs: list[int]) -> ModelError:
    return ModelError(
        f"transformers joins a pair otherwise than {path} says: {pair[0]!r} and {pair[1]!r} give {what} "
        f"{shown(ours)}, by the file {shown(theirs)}. Scores would be wrong without an error. {_REMEDY}"
    )


def require_separate_texts(folder: Path, pair: JoinedPair) -> None:
    """Refuse a tokenizer that puts nothing between the two texts of a pair: the model could not tell them apart.

    Raises:
        ModelError: It does.
    """
    if any({one, other} == {0, 1} for one, other in pairwise(pair.owners)):
        raise ModelError(
            f"The tokenizer in {folder} joins two texts with nothing between them (ids {shown(pair.ids)}), so the "
            "model could not tell query and document apart. Use the tokenizer that the model was trained with."
        )


def require_type_embeddings(folder: Path, pair: JoinedPair, num_types: int | None) -> None:
    """Refuse token types for which the model has no embedding. `num_types` is None for a model without types.

    Raises:
        ModelError: The tokenizer gives such a type.
    """
    if num_types and max(pair.types) >= num_types:
        raise ModelError(
            f"The tokenizer in {folder} gives the token types 0 to {max(pair.types)}, and the model has {num_types} "
            "(type_vocab_size in config.json). They do not belong together: copy both from one source."
        )
