"""Random-weight generative rerankers of the real architectures, with tokenizers of the real types."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import transformers
from families import enlarge
from tiny_models import corpus
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

_ENGLISH = [
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided.",
    "Given a web search query, retrieve relevant passages that answer the query",
    "What is the capital of France?\nParis is the capital of France.\n\nIs that so?\n",
    *("yes", "no", "Yes", "No", "1", "0"),
] * 20


def _trained(special: list[str], **parts: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    backend = Tokenizer(models.BPE())
    for name, part in parts.items():
        setattr(backend, name, part)
    alphabet = [] if "<0x00>" in special else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(corpus() + _ENGLISH, trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@lru_cache
def qwen() -> transformers.PreTrainedTokenizerBase:
    """As published: control tokens are special, those of thinking are not."""
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocab, merges = _trained([], normalizer=normalizers.NFC(), pre_tokenizer=words)
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocab, merges=cast(Any, merges), model_max_length=4096)
    special = [AddedToken(name, special=True, normalized=False) for name in ("<|im_start|>", "<|im_end|>")]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<think>", "</think>")])
    return tokenizer


@lru_cache
def gemma() -> transformers.PreTrainedTokenizerBase:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab, merges = _trained(
        special,
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split("▁", behavior="merged_with_next"),
    )
    return transformers.GemmaTokenizer(vocab=vocab, merges=cast(Any, merges), model_max_length=4096)


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 2048,
}


def _qwen2(**sizes: Any) -> transformers.PretrainedConfig:
    return transformers.Qwen2Config(**{name: value for name, value in sizes.items() if name != "head_dim"})


_MODELS: dict[str, tuple[Callable[[], Any], Callable[..., Any], dict[str, Any]]] = {
    "qwen3-reranker": (qwen, transformers.Qwen3Config, {}),
    "qwen3-reranker-untied": (qwen, transformers.Qwen3Config, {"tie_word_embeddings": False}),
    "qwen3-reranker-seq-cls": (qwen, transformers.Qwen3Config, {"num_labels": 1}),
    "mxbai-rerank-base-v2": (qwen, _qwen2, {}),
    "mxbai-rerank-base-v2-seq-cls": (qwen, _qwen2, {"num_labels": 1}),
    "bge-reranker-v2-gemma": (gemma, transformers.GemmaConfig, {}),
    "bge-reranker-v2-gemma-seq-cls": (gemma, transformers.GemmaConfig, {"num_labels": 1}),
}
CAUSAL = tuple(_MODELS)


def save_causal(name: str, folder: Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Write a folder as a hub would hold it, with the name of a published model."""
    make_tokenizer, make_config, changes = _MODELS[name]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": None}
    config = make_config(**{**_SIZES, "vocab_size": len(tokenizer), **special, **changes, **overrides})
    kind: Any = (
        transformers.AutoModelForSequenceClassification if config.num_labels == 1 else transformers.AutoModelForCausalLM
    )
    model = kind.from_config(config)
    enlarge(model, seed)
    model.save_pretrained(folder)
    return folder
