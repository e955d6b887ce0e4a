"""Random-weight generative rerankers of the real architectures, with tokenizers of the real types."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import transformers
from families import enlarge
from tiny_models import corpus
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

_ENGLISH = [
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided.",
    "Given a web search query, retrieve relevant passages that answer the query",
    "What is the capital of France?\nParis is the capital of France.\n\nIs that so?\n",
    *("yes", "no", "Yes", "No", "1", "0", "system\n", "user\n"),
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
def jina() -> transformers.PreTrainedTokenizerBase:
    """That of Qwen with the marks of the listwise rerankers."""
    tokenizer = copy.deepcopy(qwen())
    marks = [AddedToken(name, special=True, normalized=False) for name in ("<|embed_token|>", "<|rerank_token|>")]
    tokenizer.add_tokens(cast(Any, marks), special_tokens=True)
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


def _qwen3_vl(**sizes: Any) -> transformers.PretrainedConfig:
    """The language model of a Qwen3 with one layer of vision beside it."""
    rope = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_theta": 5_000_000}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    shared = {"num_labels": sizes.pop("num_labels", 2), "tie_word_embeddings": sizes.pop("tie_word_embeddings", True)}
    return transformers.Qwen3VLConfig(
        text_config=sizes | {"rope_parameters": rope},
        vision_config=vision | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **shared,
    )


_MODELS: dict[str, tuple[Callable[[], Any], Callable[..., Any], dict[str, Any]]] = {
    "qwen3-reranker": (qwen, transformers.Qwen3Config, {}),
    "qwen3-reranker-untied": (qwen, transformers.Qwen3Config, {"tie_word_embeddings": False}),
    "qwen3-reranker-seq-cls": (qwen, transformers.Qwen3Config, {"num_labels": 1}),
    "zerank": (qwen, transformers.Qwen3Config, {}),
    "qwen3-vl-reranker": (qwen, _qwen3_vl, {}),
    "qwen3-vl-reranker-untied": (qwen, _qwen3_vl, {"tie_word_embeddings": False}),
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
    kind: Any = transformers.AutoModelForCausalLM
    if config.num_labels == 1:
        kind = transformers.AutoModelForSequenceClassification
    elif config.model_type == "qwen3_vl":
        kind = transformers.AutoModelForImageTextToText
    model = kind.from_config(config)
    enlarge(model, seed)
    model.save_pretrained(folder)
    return folder


@lru_cache
def llama() -> transformers.PreTrainedTokenizerBase:
    """As published with Llama 3.2: words by a pattern, and <|begin_of_text|> before every text."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    backend = Tokenizer(models.BPE(ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(
        [*corpus(), *_ENGLISH, *["question:what is it \n \n passage:It is a passage"] * 20], trainer
    )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    start = backend.token_to_id(special[0])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", pair=f"{special[0]} $A {special[0]}:1 $B:1", special_tokens=[(special[0], start)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=131_072,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
        bos_token=special[0],
        eos_token=special[2],
        pad_token=special[2],
    )


_LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def save_nemotron(folder: Path, **overrides: Any) -> Path:
    """A folder in the layout of nvidia/llama-nemotron-rerank-1b-v2, its code left out."""
    tokenizer = llama()
    tokenizer.save_pretrained(folder)
    sizes = {**_SIZES, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": 1}
    rope = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64}
    config = transformers.LlamaConfig(**sizes, rope_parameters={"rope_type": "llama3", "rope_theta": 500_000.0, **rope})
    model = transformers.LlamaForSequenceClassification(config)
    enlarge(model, 0)
    model.save_pretrained(folder)
    own = "llama_bidirectional_model.LlamaBidirectional"
    path = folder / "config.json"
    written = json.loads(path.read_text())
    del written["rope_parameters"]
    written |= {
        "model_type": "llama_bidirec",
        "architectures": ["LlamaBidirectionalForSequenceClassification"],
        "auto_map": {
            "AutoConfig": f"{own}Config",
            "AutoModel": f"{own}Model",
            "AutoModelForSequenceClassification": f"{own}ForSequenceClassification",
        },
        "rope_scaling": {**rope, "rope_type": "llama3"},
        "rope_theta": 500_000.0,
        "pooling": "avg",
        "temperature": 0.5,
        **overrides,
    }
    path.write_text(json.dumps(written))
    return folder
