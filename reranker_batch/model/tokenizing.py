"""Texts to model inputs with a model's own tokenizer, each distinct text read once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.pairs import EncodedPairs, EncodedTexts, PairTemplate, assemble_pairs
from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import ModelError
from reranker_batch.model.canaries import PLAIN_TEXTS, SPACED_TEXTS, TEXTS
from reranker_batch.model.control_tokens import find_control_tokens
from reranker_batch.model.files import read_config
from reranker_batch.model.joint import JointPairEncoder
from reranker_batch.model.prompting import PromptPairEncoder, load_prompt_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.template import join_pairs, learn_template, reproduces
from reranker_batch.model.text_reader import TextReader

_LOG = logging.getLogger(__name__)
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_SANE_MAXIMUM = 1 << 24
"""A longer `model_max_length` is transformers' word for 'not known'."""


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
        return self.reader.input_id_limit(self.template.prefix + self.template.middle + self.template.suffix)

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        return EncodedTexts(*self.reader.read_cut(texts, max_tokens=max_tokens), texts)

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


ModelPairEncoder = TokenizerPairEncoder | JointPairEncoder | PromptPairEncoder


def load_pair_encoder(folder: Path, *, recipe: Recipe, trust_remote_code: bool = False) -> ModelPairEncoder:
    """Load a model's tokenizer, without its weights, and prove on canary texts that pairs come out right.

    Pairs are assembled from ids where that equals the tokenizer's own pair encoding; else each pair goes through
    the tokenizer. One log line says which. A recipe with a prompt makes that instead.

    Raises:
        ModelError: There is no usable tokenizer, or it gives other ids than its own tokenizer.json.
    """
    config = read_config(folder)
    tokenizer = _load_tokenizer(folder, trust_remote_code=trust_remote_code)
    # Not a copy: one made through JSON rounds the scores of a Unigram model, which then decides ties otherwise.
    backend = _plain(tokenizer.backend_tokenizer)
    _require_agreement(folder, backend)
    maximum = _max_pair_tokens(folder, recipe.max_positions(config), tokenizer.model_max_length)
    if recipe.prompt is not None:
        maximum = min(maximum, recipe.max_tokens or maximum)
        return load_prompt_encoder(backend, tokenizer.all_special_ids, recipe=recipe, max_pair_tokens=maximum)
    probe = join_pairs(tokenizer, PLAIN_TEXTS[:1], PLAIN_TEXTS[1:2])[0]
    control = find_control_tokens(backend, tokenizer.all_special_ids, probe.template_ids)
    reader = TextReader(backend, control)
    has_segments = "token_type_ids" in tokenizer.model_input_names and any(probe.types)
    template = learn_template(probe)
    if template is not None and reproduces(template, tokenizer, TEXTS, reader.read(TEXTS)):
        _LOG.info("tokenizer of %s: pairs are assembled from ids (checked on canary pairs)", folder)
        return TokenizerPairEncoder(reader, template, maximum, has_segments)
    _LOG.warning("tokenizer of %s: pairs cannot be assembled from ids, each is tokenized on its own (slower)", folder)
    return JointPairEncoder(tokenizer, backend, control, len(probe.template_ids), maximum, has_segments)


def _load_tokenizer(folder: Path, *, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig, AutoTokenizer

    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        # transformers would make up an empty one from the family's defaults.
        raise ModelError(
            f"No tokenizer in {folder} (looked for {', '.join(_TOKENIZER_FILES)}). Copy it from the source."
        )
    try:
        with quiet_loading():
            settings = read_config(folder)
            # The folder's own config.json would be read with the class that its author wrote.
            native = {"config": AutoConfig.for_model(**settings)} if "converted_from" in settings else {}
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code, **native
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
