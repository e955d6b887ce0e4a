"""Texts to model inputs with a model's own tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer, normalizers

from reranker_batch.core.inputs import ModelInputs, as_tokens
from reranker_batch.core.pairs import (
    EncodedPairs,
    EncodedTexts,
    PairEncoder,
    PairTemplate,
    assemble_pairs,
    max_query_tokens,
)
from reranker_batch.core.ragged import LongArray, Ragged
from reranker_batch.errors import ModelError, RerankerBatchError
from reranker_batch.model.encoding.canaries import PLAIN_TEXTS, SPACED_TEXTS, TEXTS
from reranker_batch.model.encoding.control_tokens import find_control_tokens
from reranker_batch.model.encoding.input_checks import (
    require_same_answers,
    require_same_pairs,
    require_same_template,
    require_same_text,
    require_separate_texts,
    require_type_embeddings,
)
from reranker_batch.model.encoding.joint import JointPairEncoder
from reranker_batch.model.encoding.listwise import load_list_encoder
from reranker_batch.model.encoding.prompting import load_prompt_encoder
from reranker_batch.model.encoding.template import join_pairs, learn_template, reproduces
from reranker_batch.model.encoding.text_reader import TextReader, spell_tokens
from reranker_batch.model.encoding.tokenizer_bounds import load_raw_tokenizer, plain
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.folder.positions import require_own_positions
from reranker_batch.model.folder.st_settings import ModuleSettings, module_settings
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Kind, Recipe

logger = logging.getLogger(__name__)
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_SANE_MAXIMUM = 1 << 24
"""A longer `model_max_length` is transformers' word for 'not known'."""


@dataclass(frozen=True)
class TokenizerPairEncoder:
    """Tokenizes texts apart and puts pairs together from ids, as the tokenizer's own pair encoding would."""

    reader: TextReader
    template: PairTemplate
    max_pair_tokens: int
    has_token_types: bool
    """Whether the tokenizer tells query and document apart by token type."""
    answer_ids: tuple[int, ...] = ()
    is_listwise = False

    @property
    def num_special_tokens(self) -> int:
        return self.template.num_special_tokens

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can have."""
        return self.reader.input_id_limit(self.template.prefix + self.template.middle + self.template.suffix)

    def describe(self, inputs: ModelInputs) -> list[tuple[str, str]]:
        return [("template", spell_tokens(self.reader.backend, as_tokens(inputs).ids[0]))]

    def encode_texts(self, texts: Sequence[str], *, max_tokens: int | None) -> EncodedTexts:
        return EncodedTexts(*self.reader.read_cut(texts, max_tokens=max_tokens), texts)

    def token_starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        return self.reader.starts(texts, max_tokens=max_tokens)

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
        pairs = assemble_pairs(
            self.template,
            queries.tokens,
            documents.tokens,
            query_at,
            document_at,
            max_pair_tokens=max_pair_tokens,
        )
        if self.has_token_types:
            return pairs
        inputs = as_tokens(pairs.inputs)
        return replace(pairs, inputs=replace(inputs, first_type_tokens=inputs.costs.astype(np.int32)))


class ModelPairEncoder(PairEncoder, Protocol):
    """The encoder of a local model: which one it is depends on the kind of the recipe."""

    @property
    def input_id_limit(self) -> int:
        """One more than the largest id that an input can have."""

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The tokens whose logits are the answer to a prompt; none for a model with a label."""

    def describe(self, inputs: ModelInputs) -> list[tuple[str, str]]:
        """Rows that show how the first of `inputs` is made."""


def load_pair_encoder(folder: Path, *, recipe: Recipe, trust_remote_code: bool = False) -> ModelPairEncoder:
    """Load a model's tokenizer, without its weights, and prove on canary texts that pairs come out right.

    Pairs are assembled from ids where that equals the tokenizer's own pair encoding; else each pair goes through
    the tokenizer. One log line says which. A recipe with a prompt makes that instead.

    Raises:
        ModelError: There is no usable tokenizer; or it makes other inputs than its own tokenizer.json, or than the
            repository's own template.
    """
    try:
        return _load_encoder(folder, recipe, trust_remote_code=trust_remote_code)
    except RerankerBatchError:
        raise
    except BaseException as error:  # The tokenizers library raises plain exceptions, and panics, which are none.
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ModelError(
            f"The tokenizer in {folder} does not read ordinary texts: {type(error).__name__}: {str(error)[:300]}. Copy "
            "its files again from the source."
        ) from error


@dataclass(frozen=True)
class _Source:
    """What an encoder is made from: the files of a model folder, read and checked."""

    folder: Path
    recipe: Recipe
    config: Mapping[str, Any]
    settings: ModuleSettings
    raw: Tokenizer | None
    """What tokenizer.json says, without transformers."""
    tokenizer: Any
    max_pair_tokens: int

    @property
    def backend(self) -> Tokenizer:
        """Not a copy: one made through JSON rounds the scores of a Unigram model, which then decides ties otherwise."""
        backend: Tokenizer = self.tokenizer.backend_tokenizer
        return backend


def _load_encoder(folder: Path, recipe: Recipe, *, trust_remote_code: bool) -> ModelPairEncoder:
    source = _read_source(folder, recipe, trust_remote_code=trust_remote_code)
    encoder = _ENCODERS[recipe.kind](source)
    _require_room(folder, encoder)
    if recipe.kind is not Kind.LIST:  # No template of a repository has a list of documents.
        require_same_template(folder, recipe, encoder, source.tokenizer)
    return encoder


def _require_room(folder: Path, encoder: ModelPairEncoder) -> None:
    """Raises ModelError for a model that would read no token of a document behind a long query."""
    maximum, around = encoder.max_pair_tokens, encoder.num_special_tokens
    if maximum - around - max_query_tokens(maximum) < 1:
        raise ModelError(
            f"The files in {folder} say that the model reads {maximum} tokens of a pair. {around} of them are special "
            "tokens or the template, so that a document has no place. Compare model_max_length in "
            "tokenizer_config.json and max_seq_length in sentence_bert_config.json with the source."
        )


def _read_source(folder: Path, recipe: Recipe, *, trust_remote_code: bool) -> _Source:
    config = read_config(folder)
    settings = module_settings(folder)
    path = folder / "tokenizer.json"
    raw = load_raw_tokenizer(path) if path.is_file() else None
    tokenizer = _load_tokenizer(folder, trust_remote_code=trust_remote_code)
    backend = plain(tokenizer.backend_tokenizer)
    _require_right_truncation(folder, tokenizer)
    if raw is not None:
        _require_agreement(path, raw, backend)
    maximum = _max_pair_tokens(folder, recipe.max_positions(config), tokenizer.model_max_length, settings)
    maximum = min(maximum, recipe.max_tokens or maximum)
    require_own_positions(folder, config, maximum)
    return _Source(folder, recipe, config, settings, raw, tokenizer, maximum)


def _load_prompt_encoder(source: _Source) -> ModelPairEncoder:
    """The encoder of a model that is asked with a prompt."""
    _lower_case(source.backend, source.settings)
    encoder = load_prompt_encoder(
        source.backend,
        source.tokenizer.all_special_ids,
        recipe=source.recipe,
        max_pair_tokens=source.max_pair_tokens,
    )
    require_same_answers(source.folder, encoder.answer_ids)
    return encoder


def _load_text_encoder(source: _Source) -> ModelPairEncoder:
    """The encoder of a model that reads one text, with the tokens that its tokenizer puts around any text."""
    encoder = _load_prompt_encoder(source)
    require_same_text(source.folder, source.recipe, encoder, source.tokenizer, source.raw)
    return encoder


def _load_list_encoder(source: _Source) -> ModelPairEncoder:
    """The encoder of a model that reads all documents of a request."""
    return load_list_encoder(
        source.backend,
        source.tokenizer.all_special_ids,
        source.raw or source.backend,
        recipe=source.recipe,
        max_pair_tokens=source.max_pair_tokens,
    )


def _load_pair_encoder(source: _Source) -> ModelPairEncoder:
    """The encoder of a model that reads the tokenizer's own pairs."""
    folder, tokenizer, backend = source.folder, source.tokenizer, source.backend
    num_types = _num_types(source.config) if "token_type_ids" in tokenizer.model_input_names else None
    require_same_pairs(source.raw, tokenizer, path=folder / "tokenizer.json", reads_types=(num_types or 0) > 1)
    _lower_case(backend, source.settings)
    probe = join_pairs(tokenizer, PLAIN_TEXTS[:1], PLAIN_TEXTS[1:2])[0]
    require_separate_texts(folder, probe)
    require_type_embeddings(folder, probe, num_types)
    control = find_control_tokens(backend, tokenizer.all_special_ids, probe.template_ids)
    reader = TextReader(backend, control)
    has_types = "token_type_ids" in tokenizer.model_input_names and any(probe.types)
    template = learn_template(probe)
    if template is not None and reproduces(template, tokenizer, TEXTS, reader.read(TEXTS)):
        logger.info("tokenizer of %s: pairs are assembled from ids (checked on canary pairs)", folder)
        return TokenizerPairEncoder(reader, template, source.max_pair_tokens, has_types)
    logger.warning("tokenizer of %s: pairs cannot be assembled from ids, each is tokenized on its own (slower)", folder)
    return JointPairEncoder(tokenizer, backend, control, len(probe.template_ids), source.max_pair_tokens, has_types)


_ENCODERS: Mapping[Kind, Callable[[_Source], ModelPairEncoder]] = {
    Kind.PAIR: _load_pair_encoder,
    Kind.PROMPT: _load_prompt_encoder,
    Kind.TEXT: _load_text_encoder,
    Kind.LIST: _load_list_encoder,
}


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
    except StrictDataclassError as error:  # transformers looks at config.json for the tokenizer too
        raise ModelError(
            f"{folder / 'config.json'} is not accepted by transformers: {error}. Copy the model again."
        ) from error
    except Exception as error:  # Depending on what is missing, transformers raises about anything.
        raise ModelError(
            f"The tokenizer in {folder} cannot be loaded: {type(error).__name__}: {error}.{_missing_package(folder)} A "
            "folder with tokenizer.json and tokenizer_config.json works, as AutoTokenizer.save_pretrained writes it."
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer in {folder} ({type(tokenizer).__name__}) is not one of the `tokenizers` library, "
            "which is needed to cut texts exactly. Add its tokenizer.json."
        )
    return tokenizer


def _missing_package(folder: Path) -> str:
    """What a folder whose tokenizer is in the form of SentencePiece alone asks for."""
    if (folder / "tokenizer.json").is_file() or not any(folder.glob("*.model")) or find_spec("sentencepiece"):
        return ""
    return " Its .model file is read with the package sentencepiece, which is not installed."


def _num_types(config: Mapping[str, Any]) -> int | None:
    """Token types that the model has embeddings for, by its config.json or the default of its class."""
    from transformers import AutoConfig

    if config.get("type_vocab_size") is not None:
        return int(config["type_vocab_size"])
    try:
        return getattr(AutoConfig.for_model(str(config.get("model_type"))), "type_vocab_size", None)
    except ValueError:
        return None


def _require_right_truncation(folder: Path, tokenizer: Any) -> None:
    if tokenizer.truncation_side != "right":
        raise ModelError(
            f"The tokenizer in {folder} cuts long texts at their beginning "
            f"(truncation_side={tokenizer.truncation_side!r}), and here they are cut at their end. Set it to right if "
            "the model was not trained that way."
        )


def _lower_case(backend: Tokenizer, settings: ModuleSettings) -> None:
    """Lower-case texts before anything else where sentence-transformers' settings ask for it."""
    if settings.is_lower_cased:
        own = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


def _require_agreement(path: Path, raw: Tokenizer, backend: Tokenizer) -> None:
    """Compare with the raw file: transformers rebuilds some tokenizers from its own defaults (mteb #5377)."""
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
        logger.warning(
            "transformers and %s read odd spacing differently (%r); transformers' reading is used", path, odd
        )


def _first_difference(one: Tokenizer, other: Tokenizer, texts: Sequence[str]) -> str | None:
    ids = (tokenizer.encode_batch_fast(list(texts), add_special_tokens=False) for tokenizer in (one, other))
    return next((text for text, a, b in zip(texts, *ids, strict=True) if a.ids != b.ids), None)


def _max_pair_tokens(folder: Path, positions: int | None, tokenizer_maximum: object, settings: ModuleSettings) -> int:
    if not isinstance(tokenizer_maximum, int | float | None):
        raise ModelError(
            f"{folder / 'tokenizer_config.json'} has {str(tokenizer_maximum)[:60]!r} as model_max_length, which is no "
            "number. Copy it again."
        )
    known = [maximum for maximum in (positions, settings.max_tokens) if maximum]
    if tokenizer_maximum is not None and 0 < tokenizer_maximum < _SANE_MAXIMUM:
        known.append(int(tokenizer_maximum))
    if not known:
        raise ModelError(
            f"Neither config.json (max_position_embeddings) nor tokenizer_config.json (model_max_length) in {folder} "
            "says how many tokens the model reads. Add model_max_length."
        )
    if min(known) < 1:
        raise ModelError(f"The files in {folder} say that the model reads {min(known)} tokens. Copy them again.")
    return min(known)
