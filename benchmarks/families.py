"""Tiny random models of every family that is run packed, and of a causal one, without tokenizers: ids are drawn.

The proofs on a GPU use them, and the tests.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import transformers

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import Ragged
from reranker_batch.model.forward.padded import Forward
from reranker_batch.model.source.bidirectional import BidirectionalLlama

CPU = torch.device("cpu")
LONGEST = 64
_SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": LONGEST,
    "num_labels": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_ROBERTA = {"pad_token_id": 1, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}
# Local attention that spans 8 tokens on either side is shorter than most pairs.
_MODERNBERT = {"local_attention": 16, "cls_token_id": None, "sep_token_id": None}
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "electra": ("electra", {"embedding_size": 16}),
    "distilbert": (
        "distilbert",
        {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
        | {key: _SIZES[key] for key in ("vocab_size", "max_position_embeddings", "num_labels", "pad_token_id")},
    ),
    "xlm-roberta": ("xlm-roberta", _ROBERTA),
    "roberta": ("roberta", _ROBERTA),
    "camembert": ("camembert", _ROBERTA),
    "gte": ("gte", {"type_vocab_size": 1}),
    "modernbert, last layer local": ("modernbert", _MODERNBERT),
    "modernbert, last layer global": ("modernbert", _MODERNBERT | {"num_hidden_layers": 4}),
    "modernbert, mean pooling": ("modernbert", _MODERNBERT | {"classifier_pooling": "mean"}),
    "eurobert, grouped heads": (
        "eurobert",
        {"num_key_value_heads": 2, "classifier_pooling": "bos", "mask_token_id": 4},
    ),
    "eurobert, mean pooling": ("eurobert", {"classifier_pooling": "mean", "mask_token_id": 4}),
    "nomic_bert": ("nomic_bert", {}),
    "llama, both ways": (
        "llama",
        {"num_key_value_heads": 2, "is_causal": False, "classifier_pooling": "mean", "logit_temperature": 0.5},
    ),
}
PACKED = tuple(name for name, (kind, _) in _CONFIGS.items() if kind in transformers.CONFIG_MAPPING)


def enlarge(model: torch.nn.Module, seed: int) -> None:
    """Draw weights large enough that scores differ visibly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.25)
            elif name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)


def _built(config: transformers.PretrainedConfig, **more: str) -> Any:
    own_class: Any = BidirectionalLlama
    if config.model_type == "llama":
        return own_class._from_config(config, **more)
    return transformers.AutoModelForSequenceClassification.from_config(config, **more)


@lru_cache
def _weights(name: str) -> tuple[transformers.PretrainedConfig, dict[str, torch.Tensor]]:
    kind, changes = _CONFIGS[name]
    sizes = changes if kind == "distilbert" else _SIZES | changes
    model = _built(transformers.AutoConfig.for_model(kind, **sizes))
    enlarge(model, seed=0)
    return model.config, model.state_dict()


def packed_model(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A fresh model, with the same weights at every call."""
    config, weights = _weights(name)
    model = _built(deepcopy(config), attn_implementation="sdpa")
    model.load_state_dict(weights)
    return model.to(dtype).eval()


def random_pairs(lengths: list[int], seed: int) -> TokenInputs:
    """Ids of so many tokens a pair, away from the special ones; the document begins in the middle."""
    rng = np.random.default_rng(seed)
    ids = Ragged.from_lists([rng.integers(10, 300, length) for length in lengths])
    return replace(TokenInputs.of_ids(ids), first_type_tokens=np.array(lengths, dtype=np.int32) // 2)


def logits_of(forward: Forward, pairs: TokenInputs, budget: int) -> FloatArray:
    logits = np.full(len(pairs), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for rows in forward.micro_batches(pairs, max_batch_tokens=budget):
            logits[rows] = forward(pairs, rows).float().cpu().numpy()
    return logits


def causal_model(dtype: torch.dtype = torch.float32) -> Any:
    """A tiny Qwen3 whose heads share keys."""
    config = transformers.Qwen3Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    enlarge(model, seed=0)
    return model.to(dtype).eval()


def grouped_pairs(num_queries: int, documents: int, seed: int) -> TokenInputs:
    """Pairs of which so many share their first ids."""
    rng = np.random.default_rng(seed)
    prefixes = [rng.integers(10, 300, rng.integers(5, 40)) for _ in range(num_queries)]
    pairs = [(prefix, rng.integers(10, 300, rng.integers(1, LONGEST))) for prefix in prefixes for _ in range(documents)]
    ids = Ragged.from_lists(np.concatenate(pair) for pair in pairs)
    groups = np.repeat(np.arange(num_queries), documents)
    prefix_tokens = np.array([len(prefix) for prefix, _ in pairs], dtype=np.int32)
    return replace(TokenInputs.of_ids(ids), groups=groups, prefix_tokens=prefix_tokens)
