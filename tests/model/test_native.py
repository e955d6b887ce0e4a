"""Checkpoints that come with code of their own, through transformers' classes: against their arithmetic written out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_model
from torch.nn.functional import gelu, layer_norm, linear

from reranker_batch.core.inputs import as_tokens
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import encode_text_pairs, score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.recipes import CROSS_ENCODER, choose_recipe
from reranker_batch.model.source.files import read_config, resolve_model

Weights = dict[str, torch.Tensor]
PAIRS = [("what is a panda?", "A bear of China."), ("мир", "планета " * 9), ("", ""), ("a", "東京")]


def rewrite(folder: Path, change: Callable[[Weights], Weights], config: dict[str, Any]) -> Weights:
    path = folder / "model.safetensors"
    weights = change({name: weight.clone() for name, weight in load_file(path).items()})
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return weights


def joined(weights: Weights, pattern: str, parts: tuple[str, ...], name: str, layers: int = 3) -> None:
    for layer in range(layers):
        for kind in ("weight", "bias"):
            names = [pattern.format(layer, part) + f".{kind}" for part in parts]
            if names[0] in weights:
                weights[f"{name.format(layer)}.{kind}"] = torch.cat([weights.pop(item) for item in names])


def renamed(weights: Weights, *changes: tuple[str, str]) -> Weights:
    result = {}
    for name, weight in weights.items():
        for old, new in changes:
            name = name.replace(old, new)
        result[name] = weight
    return result


NEW_CONFIG = {
    "architectures": ["NewForSequenceClassification"],
    "auto_map": {
        "AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig",
        "AutoModelForSequenceClassification": "Alibaba-NLP/new-impl--modeling.NewForSequenceClassification",
    },
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "id2label": {"0": "LABEL_0"},
    "intermediate_size": 48,
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 64,
    "model_type": "new",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pack_qkv": True,
    "pad_token_id": 1,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "type_vocab_size": 1,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
}


def save_new(folder: Path, **changes: Any) -> Weights:
    """The tiny GTE in the layout of the original repository."""
    save_model("gte", folder)
    vocab_size = read_config(folder)["vocab_size"]

    def change(weights: Weights) -> Weights:
        qkv = ("q_proj", "k_proj", "v_proj")
        joined(weights, "gte.layers.{}.self_attn.{}", qkv, "gte.layers.{}.attention.qkv_proj")
        joined(weights, "gte.layers.{}.mlp.{}", ("up_proj", "gate_proj"), "gte.layers.{}.mlp.up_gate_proj")
        return renamed(
            weights,
            ("gte.layers", "new.encoder.layer"),
            ("gte.", "new."),
            ("self_attn.o_proj", "attention.o_proj"),
            ("post_attention_layernorm", "attn_ln"),
            ("post_mlp_layernorm", "mlp_ln"),
        )

    return rewrite(folder, change, NEW_CONFIG | {"vocab_size": vocab_size} | changes)


def norm(weights: Weights, name: str, states: torch.Tensor, eps: float) -> torch.Tensor:
    return layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def dense(weights: Weights, name: str, states: torch.Tensor) -> torch.Tensor:
    return linear(states, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Of one text: three tensors of shape [tokens, heads, head size]."""
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)


def ntk_rope(states: torch.Tensor, theta: float, factor: float) -> torch.Tensor:
    """By modeling.py of new-impl: the base times the factor, the frequencies over factor ** (2 / dim)."""
    tokens, _, dim = states.shape
    frequencies = 1 / ((theta * factor) ** (torch.arange(0, dim, 2).float() / dim)) / factor ** (2 / dim)
    angles = torch.outer(torch.arange(tokens).float(), frequencies)
    cos, sin = (torch.cat([turn, turn], -1)[:, None] for turn in (angles.cos(), angles.sin()))
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin


def new_logit(weights: Weights, ids: list[int], *, theta: float = 20000.0, factor: float = 8.0) -> float:
    """NewForSequenceClassification of Alibaba-NLP/new-impl, for one text without padding."""
    states = weights["new.embeddings.word_embeddings.weight"][ids]
    states = states + weights["new.embeddings.token_type_embeddings.weight"][0]
    states = norm(weights, "new.embeddings.LayerNorm", states, 1e-12)
    for layer in range(3):
        name = f"new.encoder.layer.{layer}"
        packed = dense(weights, f"{name}.attention.qkv_proj", states).unflatten(-1, (3, 4, 8))
        q, k, v = packed.unbind(1)
        seen = attention(ntk_rope(q, theta, factor), ntk_rope(k, theta, factor), v)
        states = norm(weights, f"{name}.attn_ln", states + dense(weights, f"{name}.attention.o_proj", seen), 1e-12)
        up, gate = dense(weights, f"{name}.mlp.up_gate_proj", states).split(48, -1)
        states = norm(
            weights, f"{name}.mlp_ln", states + dense(weights, f"{name}.mlp.down_proj", gelu(gate) * up), 1e-12
        )
    pooled = torch.tanh(dense(weights, "new.pooler.dense", states[0]))
    return dense(weights, "classifier", pooled).item()


JINA_CONFIG = {
    "architectures": ["XLMRobertaForSequenceClassification"],
    "auto_map": {
        "AutoConfig": "configuration_xlm_roberta.XLMRobertaFlashConfig",
        "AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRobertaForSequenceClassification",
    },
    "bos_token_id": 0,
    "emb_pooler": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_size": 32,
    "id2label": {"0": "LABEL_0"},
    "intermediate_size": 48,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 66,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "type_vocab_size": 1,
    "use_flash_attn": True,
}


def save_jina(folder: Path, **changes: Any) -> Weights:
    """The tiny XLM-R in the layout of jina-reranker-v2, whose config.json has no model_type."""
    save_model("xlm-roberta", folder)
    vocab_size = read_config(folder)["vocab_size"]

    def change(weights: Weights) -> Weights:
        qkv = ("query", "key", "value")
        joined(weights, "roberta.encoder.layer.{}.attention.self.{}", qkv, "roberta.encoder.layer.{}.mixer.Wqkv")
        return renamed(
            weights,
            ("encoder.layer.", "encoder.layers."),
            ("attention.output.dense", "mixer.out_proj"),
            ("attention.output.LayerNorm", "norm1"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
            ("output.LayerNorm", "norm2"),
            ("embeddings.LayerNorm", "emb_ln"),
        )

    return rewrite(folder, change, JINA_CONFIG | {"vocab_size": vocab_size} | changes)


def jina_logit(weights: Weights, ids: list[int]) -> float:
    """The model of jina-reranker-v2 (norms after, exact GELU, positions from 2 on), for one text without padding."""
    embedded = "roberta.embeddings"
    states = weights[f"{embedded}.word_embeddings.weight"][ids]
    states = states + weights[f"{embedded}.position_embeddings.weight"][torch.arange(len(ids)) + 2]
    states = norm(weights, "roberta.emb_ln", states + weights[f"{embedded}.token_type_embeddings.weight"][0], 1e-5)
    for layer in range(3):
        name = f"roberta.encoder.layers.{layer}"
        q, k, v = dense(weights, f"{name}.mixer.Wqkv", states).unflatten(-1, (3, 4, 8)).unbind(1)
        states = norm(
            weights, f"{name}.norm1", states + dense(weights, f"{name}.mixer.out_proj", attention(q, k, v)), 1e-5
        )
        inner = dense(weights, f"{name}.mlp.fc2", gelu(dense(weights, f"{name}.mlp.fc1", states)))
        states = norm(weights, f"{name}.norm2", states + inner, 1e-5)
    return dense(weights, "classifier.out_proj", torch.tanh(dense(weights, "classifier.dense", states[0]))).item()


@pytest.mark.parametrize(
    ("save", "plain"), [(save_new, new_logit), (save_jina, jina_logit)], ids=["gte-multilingual", "jina-reranker-v2"]
)
def test_the_original_repository_is_scored_without_its_code(
    tmp_path: Path, save: Callable[[Path], Weights], plain: Callable[[Weights, list[int]], float]
) -> None:
    weights = save(tmp_path)
    files = resolve_model(str(tmp_path))
    recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
    assert recipe is CROSS_ENCODER
    encoder = load_pair_encoder(tmp_path, recipe=recipe)
    assert encoder.max_pair_tokens == 64
    ours = score_pairs(start_scorer(tmp_path, recipe=recipe), encoder, PAIRS)
    ids = as_tokens(encode_text_pairs(encoder, PAIRS).inputs).ids
    theirs = [plain(weights, ids[at].tolist()) for at in range(len(PAIRS))]
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_rope_without_scaling_is_plain_rope(tmp_path: Path) -> None:
    weights = save_new(tmp_path, rope_scaling=None, rope_theta=5000)
    encoder = load_pair_encoder(tmp_path, recipe=CROSS_ENCODER)
    ours = score_pairs(start_scorer(tmp_path, recipe=CROSS_ENCODER), encoder, PAIRS)
    ids = as_tokens(encode_text_pairs(encoder, PAIRS).inputs).ids
    theirs = [new_logit(weights, ids[at].tolist(), theta=5000.0, factor=1.0) for at in range(len(PAIRS))]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"layer_norm_type": "rms_norm"},
        {"logn_attention_scale": True},
        {"position_embedding_type": "absolute"},
        {"rope_scaling": {"type": "ntk", "factor": 8.0, "mixed_b": 0.6}},
        {"architectures": ["NewModel"]},
    ],
)
def test_what_the_native_class_does_not_compute_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save_new(tmp_path, **change)
    with pytest.raises(ModelError, match="needs code of its own"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("change", [{"position_embedding_type": "rotary"}, {"hidden_act": "gelu_new"}])
def test_a_model_of_jinas_code_that_differs_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save_jina(tmp_path, **change)
    with pytest.raises(ModelError, match="needs code of its own"):
        resolve_model(str(tmp_path))


def test_weights_missing_from_an_original_repository_are_refused(tmp_path: Path) -> None:
    save_new(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: weight for name, weight in load_file(path).items() if "layer.1.attention.qkv" not in name}, path)
    with pytest.raises(ModelError, match="Weights are missing"):
        start_scorer(tmp_path, recipe=CROSS_ENCODER)
