"""Random-weight rerankers of the less common encoders, each in the layout and with the tokenizer of its family."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import transformers
from families import enlarge
from tiny_models import MAX_TOKENS, byte_bpe, byte_bpe_backend, roberta, unigram, wordpiece, xlmr
from tokenizers import processors

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_TOKENS,
    "num_labels": 1,
}
_ROBERTA = _SIZES | {"max_position_embeddings": MAX_TOKENS + 2, "type_vocab_size": 1}


@lru_cache
def _pieces(special: tuple[str, ...], unknown: str) -> list[tuple[str, float]]:
    return unigram(list(special), unknown)


def albert() -> transformers.PreTrainedTokenizerBase:
    vocab = _pieces(("<pad>", "<unk>", "[CLS]", "[SEP]"), "<unk>")
    return transformers.AlbertTokenizer(vocab=[*vocab, ("[MASK]", 0.0)], model_max_length=MAX_TOKENS)


def rembert() -> transformers.PreTrainedTokenizerBase:
    vocab = _pieces(("<pad>", "[CLS]", "<unk>", "[SEP]"), "<unk>")
    tokenizer = transformers.RemBertTokenizer(vocab=[*vocab, ("[MASK]", 0.0)], model_max_length=MAX_TOKENS)
    # The class saves no template with its file; the published file has it.
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 3)],
    )
    return tokenizer


def fnet() -> transformers.PreTrainedTokenizerBase:
    vocab = _pieces(("<pad>", "<unk>", "[CLS]", "[SEP]"), "<unk>")
    return transformers.FNetTokenizer(vocab=[*vocab, ("[MASK]", 0.0)], model_max_length=MAX_TOKENS)


def big_bird() -> transformers.PreTrainedTokenizerBase:
    vocab = _pieces(("<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]"), "<unk>")
    return transformers.BigBirdTokenizer(vocab=[*vocab, ("[MASK]", 0.0)], model_max_length=MAX_TOKENS)


def deberta() -> transformers.PreTrainedTokenizerBase:
    model = json.loads(byte_bpe_backend(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]).to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return transformers.DebertaTokenizer(vocab=model["vocab"], merges=cast(Any, merges), model_max_length=MAX_TOKENS)


ENCODERS: dict[str, tuple[Callable[[], transformers.PreTrainedTokenizerBase], dict[str, Any], str]] = {
    "albert": (albert, _SIZES | {"embedding_size": 16}, "padded"),
    "big_bird": (big_bird, _SIZES | {"attention_type": "original_full"}, "padded"),
    "camembert": (roberta, _ROBERTA, "packed"),
    "convbert": (wordpiece, _SIZES | {"embedding_size": 16}, "one length at a time"),
    "data2vec-text": (roberta, _ROBERTA, "packed"),
    "deberta": (
        deberta,
        _SIZES
        | {"type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
        | {"position_biased_input": False, "max_relative_positions": -1, "pooler_hidden_size": 32},
        "padded",
    ),
    "ernie": (wordpiece, _SIZES | {"use_task_id": True, "type_vocab_size": 4}, "packed"),
    "eurobert": (
        byte_bpe,
        _SIZES | {"num_key_value_heads": 2, "classifier_pooling": "bos", "mask_token_id": 4},
        "packed",
    ),
    "fnet": (fnet, _SIZES | {"type_vocab_size": 4}, "one length at a time"),
    "longformer": (roberta, _ROBERTA | {"attention_window": 16}, "padded"),
    "megatron-bert": (wordpiece, _SIZES, "padded"),
    "mobilebert": (
        wordpiece,
        _SIZES
        | {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1, "num_hidden_layers": 2},
        "one length at a time",
    ),
    "mpnet": (roberta, _ROBERTA, "padded"),
    "nomic_bert": (wordpiece, _SIZES, "packed"),
    "rembert": (rembert, _SIZES | {"input_embedding_size": 16, "output_embedding_size": 16}, "padded"),
    "roberta-prelayernorm": (roberta, _ROBERTA, "packed"),
    "roformer": (wordpiece, _SIZES | {"embedding_size": 16}, "padded"),
    "squeezebert": (wordpiece, _SIZES | {"embedding_size": 32}, "padded"),
    "xlm-roberta-xl": (xlmr, _ROBERTA, "packed"),
}
"""Tokenizer, settings, and how the model is run."""


def save_encoder(name: str, folder: Path, **overrides: Any) -> Path:
    """Write a folder as a hub would hold it. Weights are large enough that scores differ visibly."""
    make_tokenizer, settings, _ = ENCODERS[name]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": None}
    sizes = settings | {"vocab_size": len(tokenizer)} | special | overrides
    model = transformers.AutoModelForSequenceClassification.from_config(
        transformers.AutoConfig.for_model(name, **sizes)
    )
    enlarge(model, 0)
    model.save_pretrained(folder)
    return folder
