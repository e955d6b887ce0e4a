"""Texts to model inputs with a model's own tokenizer, each distinct text read once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, PairTemplate, assemble_pairs
from reranker_batch.core.ragged import LongArray, Ragged, offsets_of
from reranker_batch.errors import ModelError
from reranker_batch.model.canaries import PLAIN_TEXTS, SPACED_TEXTS, TEXTS
from reranker_batch.model.control_tokens import ControlTokens, find_control_tokens
from reranker_batch.model.files import read_config
from reranker_batch.model.joint import JointPairEncoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.template import join_pairs, learn_template, reproduces

_LOG = logging.getLogger(__name__)
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_TEXTS_A_CALL = 1024
"""Texts given to the tokenizer at once: bounds the memory of what it says beside the ids."""
_CHARACTERS_A_TOKEN = 16
"""More than ordinary text has; a head with too few tokens is read again, whole."""
_SANE_MAXIMUM = 1 << 24
"""A longer `model_max_length` is transformers' word for 'not known'."""


@dataclass(frozen=True)
class TextReader:
    """Ids of texts without special tokens, none of them a control token."""

    backend: Tokenizer
    control: ControlTokens
    splits_at_spaces: bool = False
    """Whether the tokens before a space never depend on what follows it."""

    def read(self, texts: Sequence[str], *, more_than: int | None = None) -> Ragged:
        """Token ids of each text, whole; with `more_than`, at least one more than so many of a longer one.

        The tokenizer reads a text to its end before it cuts (huggingface/tokenizers#1573), so a text that is far too
        long is cut first, where that costs no token that is asked for.
        """
        parts = []
        for at in range(0, len(texts), _TEXTS_A_CALL):
            some = texts[at : at + _TEXTS_A_CALL]
            parts.append(self._read(some) if more_than is None else self._read_heads(some, more_than))
        return _concatenate(parts)

    def _read(self, texts: Sequence[str]) -> Ragged:
        return self.control.spell_out(_read(self.backend, texts))

    def _read_heads(self, texts: Sequence[str], more_than: int) -> Ragged:
        if not self.splits_at_spaces:
            return self._read(texts)
        heads = [_head(text, more_than * _CHARACTERS_A_TOKEN) for text in texts]
        tokens = self._read(heads)
        is_short = np.array([len(head) < len(text) for head, text in zip(heads, texts, strict=True)], dtype=np.bool_)
        again = np.flatnonzero(is_short & (tokens.lengths <= more_than)).tolist()
        if not again:
            return tokens
        whole = self._read([texts[at] for at in again])
        place = np.arange(len(texts))
        place[again] = len(texts) + np.arange(len(again))
        return _concatenate([tokens, whole]).take(place)


@dataclass(frozen=True)
class TokenizerPairEncoder:
    """Tokenizes texts apart and puts pairs together from ids, as the tokenizer's own pair encoding would."""

    reader: TextReader
    template: PairTemplate
    max_pair_tokens: int
    has_segments: bool
    """Whether the tokenizer tells query and document apart by token type."""

    @property
    def num_special_tokens(self) -> int:
        return self.template.num_special_tokens

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can hold."""
        return input_id_limit(self.reader, self.template.prefix + self.template.middle + self.template.suffix)

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        tokens = self.reader.read(texts, more_than=max_tokens)
        lengths = tokens.lengths
        if max_tokens is None or not (lengths > max_tokens).any():
            return EncodedTexts(tokens, np.zeros(len(texts), dtype=np.bool_), texts)
        return EncodedTexts(tokens.head(np.minimum(lengths, max_tokens)), lengths > max_tokens, texts)

    def encode_pairs(
        self,
        queries: EncodedTexts,
        documents: EncodedTexts,
        query_at: LongArray,
        document_at: LongArray,
        *,
        max_pair_tokens: int,
    ) -> EncodedPairs:
        pairs = assemble_pairs(
            self.template,
            queries.tokens,
            documents.tokens,
            query_at,
            document_at,
            max_pair_tokens=max_pair_tokens,
        )
        if self.has_segments:
            return pairs
        return replace(pairs, first_segment=pairs.input_ids.lengths.astype(np.int32))


ModelPairEncoder = TokenizerPairEncoder | JointPairEncoder


def load_pair_encoder(folder: Path, *, recipe: Recipe, trust_remote_code: bool = False) -> ModelPairEncoder:
    """Load a model's tokenizer, without its weights, and prove on canary texts that pairs come out right.

    Pairs are assembled from ids where that equals the tokenizer's own pair encoding; else each pair goes through
    the tokenizer. One log line says which.

    Raises:
        ModelError: There is no usable tokenizer, or it gives other ids than its own tokenizer.json.
    """
    config = read_config(folder)
    tokenizer = _load_tokenizer(folder, trust_remote_code=trust_remote_code)
    # Not a copy: one made through JSON rounds the scores of a Unigram model, which then decides ties otherwise.
    backend = _plain(tokenizer.backend_tokenizer)
    _require_agreement(folder, backend)
    probe = join_pairs(tokenizer, PLAIN_TEXTS[:1], PLAIN_TEXTS[1:2])[0]
    control = find_control_tokens(backend, tokenizer.all_special_ids, probe.template_ids)
    reader = TextReader(backend, control, splits_at_spaces=_splits_at_spaces(backend))
    maximum = _max_pair_tokens(folder, recipe.max_positions(config), tokenizer.model_max_length)
    has_segments = "token_type_ids" in tokenizer.model_input_names and any(probe.types)
    template = learn_template(probe)
    if template is not None and reproduces(template, tokenizer, TEXTS, reader.read(TEXTS)):
        _LOG.info("tokenizer of %s: pairs are assembled from ids (checked on canary pairs)", folder)
        return TokenizerPairEncoder(reader, template, maximum, has_segments)
    _LOG.warning("tokenizer of %s: pairs cannot be assembled from ids, each is tokenized on its own (slower)", folder)
    return JointPairEncoder(tokenizer, backend, control, len(probe.template_ids), maximum, has_segments)


def input_id_limit(reader: TextReader, template_ids: Sequence[int]) -> int:
    """One more than the largest id that texts or the template can give."""
    ids = set(reader.backend.get_vocab(with_added_tokens=True).values()) - reader.control.ids
    return max(ids | set(template_ids)) + 1


def _load_tokenizer(folder: Path, *, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        # transformers would make up an empty one from the family's defaults.
        raise ModelError(
            f"No tokenizer in {folder} (looked for {', '.join(_TOKENIZER_FILES)}). Copy it from the source."
        )
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # Depending on what is missing, transformers raises about anything.
        raise ModelError(
            f"The tokenizer in {folder} cannot be loaded: {type(error).__name__}: {error}. A folder with "
            "tokenizer.json and tokenizer_config.json works, as AutoTokenizer.save_pretrained writes it."
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer in {folder} ({type(tokenizer).__name__}) is not one of the `tokenizers` library, "
            "which is needed to cut texts exactly. Add its tokenizer.json."
        )
    return tokenizer


def _plain(backend: Tokenizer) -> Tokenizer:
    """Switch truncation, padding and the search for special tokens in texts off."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _require_agreement(folder: Path, backend: Tokenizer) -> None:
    """Compare with the raw file: transformers rebuilds some tokenizers from its own defaults (mteb #5377)."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    raw = _plain(Tokenizer.from_file(str(path)))
    wrong = _first_difference(raw, backend, PLAIN_TEXTS)
    if wrong is not None:
        raise ModelError(
            f"transformers reads {path} otherwise than the file says: {wrong!r} gives "
            f"{backend.encode(wrong, add_special_tokens=False).ids[:12]}, by the file "
            f"{raw.encode(wrong, add_special_tokens=False).ids[:12]}. Scores would be wrong without an error. "
            'Set "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json if the file is right.'
        )
    odd = _first_difference(raw, backend, SPACED_TEXTS)
    if odd is not None:
        _LOG.warning("transformers and %s read odd spacing differently (%r); transformers' way is used", path, odd)


def _head(text: str, characters: int) -> str:
    """The text up to the last single space before so many characters, all of it if there is none."""
    if len(text) <= characters:
        return text
    at = text.rfind(" ", 0, characters)
    while at > 0 and (text[at - 1].isspace() or text[at + 1].isspace()):
        at = text.rfind(" ", 0, at)
    return text[:at] if at > 0 else text


def _splits_at_spaces(backend: Tokenizer) -> bool:
    """By how it takes words apart, and tried on every single space of the canary texts."""
    if backend.pre_tokenizer is None or len(backend.pre_tokenizer.pre_tokenize_str("two words")) < 2:
        return False
    heads = [(text, text[:at]) for text in PLAIN_TEXTS for at in range(1, len(text)) if text[at] == " "]
    whole = backend.encode_batch_fast([text for text, _ in heads], add_special_tokens=False)
    parts = backend.encode_batch_fast([head for _, head in heads], add_special_tokens=False)
    return all(one.ids[: len(part.ids)] == part.ids for one, part in zip(whole, parts, strict=True))


def _first_difference(one: Tokenizer, other: Tokenizer, texts: Sequence[str]) -> str | None:
    ids = (tokenizer.encode_batch_fast(list(texts), add_special_tokens=False) for tokenizer in (one, other))
    return next((text for text, a, b in zip(texts, *ids, strict=True) if a.ids != b.ids), None)


def _max_pair_tokens(folder: Path, positions: int | None, tokenizer_maximum: float) -> int:
    known = [positions] if positions else []
    if 0 < tokenizer_maximum < _SANE_MAXIMUM:
        known.append(int(tokenizer_maximum))
    if not known:
        raise ModelError(
            f"Neither config.json (max_position_embeddings) nor tokenizer_config.json (model_max_length) in {folder} "
            "says how many tokens the model reads. Add model_max_length."
        )
    return min(known)


def _read(backend: Tokenizer, texts: Sequence[str]) -> Ragged:
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    lengths = np.fromiter((len(encoding) for encoding in encodings), dtype=np.int64, count=len(encodings))
    ids = chain.from_iterable(encoding.ids for encoding in encodings)
    return Ragged(np.fromiter(ids, dtype=np.int32, count=int(lengths.sum())), offsets_of(lengths))


def _concatenate(parts: Sequence[Ragged]) -> Ragged:
    if not parts:
        return Ragged.from_lists([])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, offsets_of(np.concatenate([part.lengths for part in parts])))
