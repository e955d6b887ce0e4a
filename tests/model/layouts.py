"""Settings and files of published repositories: rerankers, and what people take for one. Weights do not matter here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from test_templates import template

Files = Mapping[str, Any]
"""Names of files and their content: a text, or an object for JSON."""
WEIGHTS = "model.safetensors"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90866120\n"


@dataclass(frozen=True)
class Layout:
    """A repository: its name, the tokenizer it has, its config.json, and further files. None removes a file."""

    name: str
    tokenizer: str
    config: Mapping[str, Any] | None
    files: Files = field(default_factory=dict)
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `choose_recipe`."""

    @property
    def repository(self) -> str:
        """The id on the hub, without what tells variants apart."""
        return self.name.partition(", ")[0]

    def but(self, change: str, **changes: Any) -> Layout:
        """A variant: `config`, `files` and `tokenizer_config` are merged."""
        config = changes.get("config", {})
        return Layout(
            f"{self.name}, {change}",
            changes.get("tokenizer", self.tokenizer),
            None if config is None else {**(self.config or {}), **config},
            {**self.files, **changes.get("files", {})},
            {**self.tokenizer_config, **changes.get("tokenizer_config", {})},
            {**self.options, **changes.get("options", {})},
        )


@dataclass(frozen=True)
class Served:
    layout: Layout
    recipe: str
    tokens: int


@dataclass(frozen=True)
class Refused:
    """A layout that is refused, and the one that differs from it in what matters and is served."""

    layout: Layout
    reason: str
    twin: Layout
    what: str = "."
    """What `recipes --check` says that it is."""


def config(model_type: str, architecture: str | None, **more: Any) -> dict[str, Any]:
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 1500}
    classes = {"architectures": [architecture]} if architecture else {}
    return {"model_type": model_type, **classes, **labels, **sizes, "pad_token_id": 0, **more}


def bert(**more: Any) -> dict[str, Any]:
    return config("bert", "BertForSequenceClassification", max_position_embeddings=512, type_vocab_size=2, **more)


def xlmr(positions: int = 514, **more: Any) -> dict[str, Any]:
    more = {"max_position_embeddings": positions, "type_vocab_size": 1, "pad_token_id": 1, **more}
    return config("xlm-roberta", "XLMRobertaForSequenceClassification", **more)


def roberta(**more: Any) -> dict[str, Any]:
    more = {"max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1, **more}
    return config("roberta", "RobertaForSequenceClassification", **more)


def deberta(**more: Any) -> dict[str, Any]:
    more = {"max_position_embeddings": 512, "type_vocab_size": 0, "relative_attention": True, **more}
    return config("deberta-v2", "DebertaV2ForSequenceClassification", **more)


def modernbert(**more: Any) -> dict[str, Any]:
    more = {"max_position_embeddings": 8192, "classifier_pooling": "mean", **more}
    return config("modernbert", "ModernBertForSequenceClassification", **more)


IDENTITY = "torch.nn.modules.linear.Identity"
LONG = {"model_max_length": 10**30}
MINILM = Layout(
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "bert",
    bert(sentence_transformers={"activation_fn": IDENTITY, "version": "4.1.0"}),
    tokenizer_config={"model_max_length": 512},
)
M3 = Layout(
    "BAAI/bge-reranker-v2-m3",
    "xlm-roberta",
    xlmr(8194),
    {"sentence_bert_config.json": {"max_seq_length": 512}},
    tokenizer_config={"model_max_length": 8192},
)
ELECTRA = Layout(
    "cross-encoder/ms-marco-electra-base",
    "electra",
    config("electra", "ElectraForSequenceClassification", max_position_embeddings=512, type_vocab_size=2),
    tokenizer_config=LONG,
)
STSB = Layout("cross-encoder/stsb-roberta-base", "roberta", roberta(), tokenizer_config=LONG)
MXBAI_V1 = Layout("mixedbread-ai/mxbai-rerank-base-v1", "deberta-v2", deberta(), tokenizer_config=LONG)
GTE_MODERN = Layout("Alibaba-NLP/gte-reranker-modernbert-base", "modernbert", modernbert(), tokenizer_config=LONG)
MONOBERT = Layout(
    "castorini/monobert-large-msmarco",
    "bert",
    {key: value for key, value in bert().items() if "label" not in key},
    tokenizer_config=LONG,
    options={"positive": 1},
)
GTE_NEW = Layout(
    "Alibaba-NLP/gte-multilingual-reranker-base",
    "xlm-roberta",
    config(
        "new",
        "NewForSequenceClassification",
        auto_map={"AutoModelForSequenceClassification": "Alibaba-NLP/new-impl--modeling.NewForSequenceClassification"},
        intermediate_size=48,
        max_position_embeddings=8192,
        type_vocab_size=1,
        pad_token_id=1,
        position_embedding_type="rope",
        rope_theta=20_000,
        rope_scaling={"type": "ntk", "factor": 8.0},
    ),
    tokenizer_config={"model_max_length": 32_768},
)
JINA_V2 = Layout(
    "jinaai/jina-reranker-v2-base-multilingual",
    "xlm-roberta",
    xlmr(
        1026,
        auto_map={
            "AutoConfig": "configuration_xlm_roberta.XLMRobertaFlashConfig",
            "AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRobertaForSequenceClassification",
        },
        position_embedding_type="absolute",
        hidden_act="gelu",
    ),
    tokenizer_config={"model_max_length": 1026},
)
GTE_NATIVE = Layout(
    "alibaba-nlp-community/gte-multilingual-reranker-base",
    "xlm-roberta",
    config("gte", "GteForSequenceClassification", max_position_embeddings=8192, type_vocab_size=1, pad_token_id=1),
    tokenizer_config={"model_max_length": 32_768},
)
QWEN3_CONFIG = {"max_position_embeddings": 40_960, "head_dim": 8, "tie_word_embeddings": True}
QWEN3 = Layout(
    "Qwen/Qwen3-Reranker-0.6B", "qwen", config("qwen3", "Qwen3ForCausalLM", **QWEN3_CONFIG), tokenizer_config=LONG
)
QWEN3_CLS = Layout(
    "tomaarsen/Qwen3-Reranker-0.6B-seq-cls",
    "qwen",
    config("qwen3", "Qwen3ForSequenceClassification", **QWEN3_CONFIG),
    tokenizer_config=LONG,
)
QWEN3_OURS = Layout("ours/finetuned", "qwen", QWEN3.config, {"chat_template.jinja": template()}, LONG)
MXBAI_V2 = Layout(
    "mixedbread-ai/mxbai-rerank-base-v2",
    "qwen",
    config("qwen2", "Qwen2ForCausalLM", max_position_embeddings=32_768, hidden_size=896),
    tokenizer_config=LONG,
)
GEMMA = Layout(
    "BAAI/bge-reranker-v2-gemma",
    "gemma",
    config("gemma", "GemmaForCausalLM", max_position_embeddings=8192),
    tokenizer_config=LONG,
)
NEMOTRON = Layout(
    "nvidia/llama-nemotron-rerank-1b-v2",
    "llama",
    config(
        "llama_bidirec",
        "LlamaBidirectionalForSequenceClassification",
        auto_map={"AutoModelForSequenceClassification": "llama_bidirectional_model.Own"},
        max_position_embeddings=131_072,
        pooling="avg",
        temperature=1.0,
    ),
    tokenizer_config=LONG,
)
ST = {"__version__": {"sentence_transformers": "5.2.0"}}
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
LOGIT_SCORE = {
    "idx": 1,
    "name": "1",
    "path": "1_LogitScore",
    "type": "sentence_transformers.cross_encoder.modules.LogitScore",
}

PARTS = "sentence_transformers.base.modules", "sentence_transformers.sentence_transformer.modules"
CHAIN = [
    {"idx": at, "name": str(at), "path": path, "type": kind}
    for at, (path, kind) in enumerate(
        [
            ("", f"{PARTS[0]}.transformer.Transformer"),
            ("1_Pooling", f"{PARTS[1]}.pooling.Pooling"),
            ("2_Dense", f"{PARTS[0]}.dense.Dense"),
            ("3_LayerNorm", f"{PARTS[1]}.layer_norm.LayerNorm"),
            ("4_Dense", f"{PARTS[0]}.dense.Dense"),
        ]
    )
]
DENSE = {"in_features": 32, "module_input_name": "sentence_embedding"}
ETTIN = Layout(
    "cross-encoder/ettin-reranker-17m-v1",
    "modernbert",
    modernbert(architectures=["ModernBertModel"]),
    {
        "modules.json": CHAIN,
        "config_sentence_transformers.json": {**ST, "activation_fn": IDENTITY},
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
        "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True},
        "2_Dense/config.json": {
            **DENSE,
            "out_features": 32,
            "bias": False,
            "activation_function": "torch.nn.modules.activation.GELU",
            "module_output_name": "sentence_embedding",
        },
        "3_LayerNorm/config.json": {"dimension": 32},
        "4_Dense/config.json": {
            **DENSE,
            "out_features": 1,
            "bias": True,
            "activation_function": IDENTITY,
            "module_output_name": "scores",
        },
    },
    LONG,
)
ZERANK = Layout(
    "zeroentropy/zerank-2",
    "qwen",
    config("qwen3", "Qwen3ForCausalLM", **QWEN3_CONFIG),
    {
        "modules.json": [*MODULES, LOGIT_SCORE],
        "1_LogitScore/config.json": {"true_token_id": "Yes", "false_token_id": None},
    },
    LONG,
)
QWEN3_VL = Layout(
    "Qwen/Qwen3-VL-Reranker-2B",
    "qwen",
    {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": False,
            "head_dim": 8,
            "hidden_act": "silu",
            "hidden_size": 32,
            "intermediate_size": 48,
            "max_position_embeddings": 262_144,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default"},
            "rope_theta": 5_000_000,
            "tie_word_embeddings": True,
            "vocab_size": 1500,
        },
        "tie_word_embeddings": True,
        "vision_config": {"depth": 24, "model_type": "qwen3_vl"},
    },
    tokenizer_config=LONG,
)

JINA_V3 = Layout(
    "jinaai/jina-reranker-v3",
    "jina",
    {
        **{key: value for key, value in config("qwen3", "JinaForRanking").items() if "label" not in key},
        **QWEN3_CONFIG,
        "auto_map": {"AutoModel": "modeling.JinaForRanking"},
        "max_position_embeddings": 131_072,
    },
    tokenizer_config={"model_max_length": 131_072},
)
JINA_V3_5 = JINA_V3.but(
    "3.5",
    config={
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "sliding_window": 1024,
        "use_sliding_window": True,
    },
)


def as_text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)
