"""Models published with code of their own whose arithmetic a class of transformers has: settings and weights renamed.

No code of the repository is run. A config.json that asks for what the native class does not compute is left as it is,
and refused later like any other model that needs its own code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

_SAME_ANYWHERE = (
    "attention_probs_dropout_prob",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "id2label",
    "intermediate_size",
    "label2id",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "quantization_config",
    "sentence_transformers",
    "type_vocab_size",
    "vocab_size",
)


@dataclass(frozen=True)
class Renaming:
    """Weights whose name matches `pattern` have the name `targets[0]`, or in equal parts all of them.

    Those without targets are not read.
    """

    pattern: str
    targets: tuple[str, ...]


_NEW = (
    Renaming(
        r"^new\.encoder\.layer\.(\d+)\.attention\.qkv_proj\.",
        tuple(rf"gte.layers.\1.self_attn.{x}_proj." for x in "qkv"),
    ),
    Renaming(r"^new\.encoder\.layer\.(\d+)\.attention\.o_proj\.", (r"gte.layers.\1.self_attn.o_proj.",)),
    Renaming(
        r"^new\.encoder\.layer\.(\d+)\.mlp\.up_gate_proj\.",
        (r"gte.layers.\1.mlp.up_proj.", r"gte.layers.\1.mlp.gate_proj."),
    ),
    Renaming(r"^new\.encoder\.layer\.(\d+)\.attn_ln\.", (r"gte.layers.\1.post_attention_layernorm.",)),
    Renaming(r"^new\.encoder\.layer\.(\d+)\.mlp_ln\.", (r"gte.layers.\1.post_mlp_layernorm.",)),
    Renaming(r"^new\.encoder\.layer\.", ("gte.layers.",)),
    Renaming(r"^new\.", ("gte.",)),
)
_JINA_LAYER = r"^roberta\.encoder\.layers\.(\d+)\."
_XLMR_LAYER = r"roberta.encoder.layer.\1."
_JINA = (
    Renaming(
        rf"{_JINA_LAYER}mixer\.Wqkv\.", tuple(f"{_XLMR_LAYER}attention.self.{x}." for x in ("query", "key", "value"))
    ),
    Renaming(rf"{_JINA_LAYER}mixer\.out_proj\.", (f"{_XLMR_LAYER}attention.output.dense.",)),
    Renaming(rf"{_JINA_LAYER}norm1\.", (f"{_XLMR_LAYER}attention.output.LayerNorm.",)),
    Renaming(rf"{_JINA_LAYER}mlp\.fc1\.", (f"{_XLMR_LAYER}intermediate.dense.",)),
    Renaming(rf"{_JINA_LAYER}mlp\.fc2\.", (f"{_XLMR_LAYER}output.dense.",)),
    Renaming(rf"{_JINA_LAYER}norm2\.", (f"{_XLMR_LAYER}output.LayerNorm.",)),
    Renaming(r"^roberta\.emb_ln\.", ("roberta.embeddings.LayerNorm.",)),
)
_QWEN3_VL = (
    Renaming(r"^model\.visual\.", ()),
    Renaming(r"^model\.language_model\.", ("model.",)),
)
_OF_TEXT = (
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
)
_PLAIN_ROPE = ("default", "mrope")
RENAMINGS: Mapping[str, tuple[Renaming, ...]] = {
    "new": _NEW,
    "jina-xlm-roberta": _JINA,
    "llama_bidirec": (),
    "qwen3_vl": _QWEN3_VL,
}


def as_native(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of the native class that computes the same; any other config as it is.

    `converted_from` in the result names the weights' old layout.
    """
    if _is_new(config):
        return _converted(config, "new", "gte", "GteForSequenceClassification", rope_parameters=_rope(config))
    if _is_jina_reranker_v2(config):
        return _converted(config, "jina-xlm-roberta", "xlm-roberta", "XLMRobertaForSequenceClassification")
    if _is_bidirectional_llama(config):
        return _bidirectional_llama(config)
    if _is_qwen3_vl(config):
        return _text_of_qwen3_vl(config)
    return dict(config)


def new_names(name: str, converted_from: str) -> list[str]:
    """What a weight of the old layout is called; several names mean that it is cut into so many equal parts.

    None means that it is not read.
    """
    for renaming in RENAMINGS[converted_from]:
        if re.search(renaming.pattern, name):
            return [re.sub(renaming.pattern, target, name) for target in renaming.targets]
    return [name]


def _converted(config: Mapping[str, Any], old: str, model_type: str, architecture: str, **more: Any) -> dict[str, Any]:
    kept = {name: config[name] for name in _SAME_ANYWHERE if name in config}
    return {**kept, "model_type": model_type, "architectures": [architecture], "converted_from": old, **more}


def _is_new(config: Mapping[str, Any]) -> bool:
    """Alibaba-NLP/new-impl, as the reranker of gte-multilingual uses it."""
    scaling = config.get("rope_scaling")
    return (
        config.get("model_type") == "new"
        and config.get("architectures") == ["NewForSequenceClassification"]
        and config.get("position_embedding_type", "rope") == "rope"
        and config.get("layer_norm_type", "layer_norm") == "layer_norm"
        and config.get("pack_qkv", True)
        and not config.get("logn_attention_scale", False)
        and (scaling is None or (scaling.get("type") == "ntk" and scaling.get("mixed_b") is None))
    )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """NTK scaling multiplies the base by the factor, and divides all frequencies by factor^(2 / head size) as well
    (https://kexue.fm/archives/9706, formula 6), which is a linear scaling."""
    theta = float(config.get("rope_theta", 10_000.0))
    scaling = config.get("rope_scaling")
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}
    factor = float(scaling["factor"])
    head_size = config["hidden_size"] // config["num_attention_heads"]
    return {"rope_type": "linear", "rope_theta": theta * factor, "factor": factor ** (2 / head_size)}


def _is_jina_reranker_v2(config: Mapping[str, Any]) -> bool:
    """Its XLM-RoBERTa for flash attention is the usual one: absolute positions, norms after the layers, exact GELU."""
    own_config = str((config.get("auto_map") or {}).get("AutoConfig"))
    return (
        own_config.endswith(".XLMRobertaFlashConfig")
        and config.get("architectures") == ["XLMRobertaForSequenceClassification"]
        and config.get("position_embedding_type") == "absolute"
        and config.get("hidden_act") == "gelu"
        and not config.get("emb_pooler")
        and not config.get("lora_adaptations")
    )


def _is_bidirectional_llama(config: Mapping[str, Any]) -> bool:
    """NVIDIA's Llama without a causal mask, whose head reads the mean of all tokens."""
    return (
        config.get("model_type") == "llama_bidirec"
        and config.get("architectures") == ["LlamaBidirectionalForSequenceClassification"]
        and config.get("pooling", "avg") == "avg"
    )


def _bidirectional_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """Its logit is divided by `temperature`, which is another setting in transformers."""
    temperature = float(config.get("temperature", 1.0))
    if not 0 < temperature < inf:
        raise ValueError(f"temperature: {temperature}")
    kept = {name: value for name, value in config.items() if name not in ("auto_map", "pooling", "temperature")}
    native = {"model_type": "llama", "is_causal": False, "classifier_pooling": "mean", "use_cache": False}
    return {**kept, **native, "logit_temperature": temperature, "converted_from": "llama_bidirec"}


def _is_qwen3_vl(config: Mapping[str, Any]) -> bool:
    """Whether the language model of a Qwen3-VL is a plain Qwen3.

    Its positions in time, height and width are equal for text, so that turning by each of them in turn is plain RoPE.
    """
    text = config.get("text_config")
    return (
        config.get("model_type") == "qwen3_vl"
        and config.get("architectures") == ["Qwen3VLForConditionalGeneration"]
        and not config.get("auto_map")
        and isinstance(text, dict)
        and _rope_of(text).get("rope_type", "default") in _PLAIN_ROPE
    )


def _rope_of(text: Mapping[str, Any]) -> dict[str, Any]:
    rope = dict(text.get("rope_parameters") or text.get("rope_scaling") or {})
    return {"rope_type": rope.get("type", "default"), **rope}


def _text_of_qwen3_vl(config: Mapping[str, Any]) -> dict[str, Any]:
    """As a Qwen3 of which transformers reads the text alone; its vision tower is left out."""
    text: Mapping[str, Any] = config["text_config"]
    theta = float(_rope_of(text).get("rope_theta") or text["rope_theta"])
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    kept = {name: text[name] for name in _OF_TEXT}
    more = {"tie_word_embeddings": tied, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    return _converted(config, "qwen3_vl", "qwen3", "Qwen3ForCausalLM", **kept, **more)
