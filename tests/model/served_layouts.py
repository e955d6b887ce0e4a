"""Layouts that are served: by which recipe, and how many tokens a pair may have."""

from __future__ import annotations

from typing import Any

from layouts import (
    ELECTRA,
    ETTIN,
    GEMMA,
    GTE_MODERN,
    GTE_NATIVE,
    GTE_NEW,
    IDENTITY,
    JINA_V2,
    JINA_V3,
    JINA_V3_5,
    LOGIT_SCORE,
    LONG,
    M3,
    MINILM,
    MODULES,
    MONOBERT,
    MXBAI_V1,
    MXBAI_V2,
    NEMOTRON,
    QWEN3,
    QWEN3_CLS,
    QWEN3_OURS,
    QWEN3_VL,
    ST,
    STSB,
    WEIGHTS,
    ZERANK,
    Layout,
    Served,
    bert,
    config,
    roberta,
    xlmr,
)
from test_templates import template


def encoder(name: str, model_type: str, tokenizer: str, prefix: str, **more: Any) -> Served:
    """A cross-encoder of one of the less common encoders, which reads 512 tokens."""
    more = {"max_position_embeddings": 512, **more}
    layout = Layout(name, tokenizer, config(model_type, f"{prefix}ForSequenceClassification", **more), {}, LONG)
    return Served(layout, "cross-encoder", 512)


ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
SERVED = [
    Served(MINILM, "cross-encoder", 512),
    Served(
        MINILM.but(
            "older settings", config={"sentence_transformers": None, "sbert_ce_default_activation_function": IDENTITY}
        ),
        "cross-encoder",
        512,
    ),
    Served(Layout("cross-encoder/ms-marco-TinyBERT-L2-v2", "bert", bert(), {}, LONG), "cross-encoder", 512),
    Served(MINILM.but("no architectures", config={"architectures": None}), "cross-encoder", 512),
    Served(
        MINILM.but("no maximum in the tokenizer", tokenizer_config={"model_max_length": None}), "cross-encoder", 512
    ),
    Served(MINILM.but("num_labels alone", config={"id2label": None, "num_labels": 1}), "cross-encoder", 512),
    Served(MINILM.but("a named label", config={"id2label": {"0": "relevance"}}), "cross-encoder", 512),
    Served(MINILM.but("a half-precision checkpoint", config={"torch_dtype": "float16"}), "cross-encoder", 512),
    Served(MINILM.but("return_dict", config={"return_dict": False, "output_attentions": True}), "cross-encoder", 512),
    Served(MINILM.but("with a pickle too", files={"pytorch_model.bin": "x"}), "cross-encoder", 512),
    Served(
        MINILM.but(
            "with exports",
            files={
                "onnx/model.onnx": "x",
                "openvino/openvino_model.xml": "x",
                "tf_model.h5": "x",
                "flax_model.msgpack": "x",
            },
        ),
        "cross-encoder",
        512,
    ),
    Served(
        MINILM.but("with what training left", files={"training_args.bin": "x", "optimizer.pt": "x"}),
        "cross-encoder",
        512,
    ),
    Served(
        MINILM.but(
            "sharded",
            files={WEIGHTS: None, "model-00001-of-00001.safetensors": "x", "model.safetensors.index.json": {}},
        ),
        "cross-encoder",
        512,
    ),
    Served(MINILM.but("a leftover of an adapter", files={"adapter_config.json": {}}), "cross-encoder", 512),
    Served(
        MINILM.but("a chat template of its base", files={"chat_template.jinja": "{{ messages }}"}), "cross-encoder", 512
    ),
    Served(
        MINILM.but("absolute positions named", config={"position_embedding_type": "absolute"}), "cross-encoder", 512
    ),
    Served(
        MINILM.but(
            "as sentence-transformers saves it",
            files={"modules.json": MODULES, "sentence_bert_config.json": {"max_seq_length": 256}},
        ),
        "cross-encoder",
        256,
    ),
    Served(
        MINILM.but(
            "prompts, none by default", files={"config_sentence_transformers.json": {**ST, "prompts": {"query": "q: "}}}
        ),
        "cross-encoder",
        512,
    ),
    Served(
        MINILM.but("code for another class", config={"auto_map": {"AutoModelForMaskedLM": "modeling.Own"}}),
        "cross-encoder",
        512,
    ),
    Served(MINILM.but("no special_tokens_map", files={"special_tokens_map.json": None}), "cross-encoder", 512),
    Served(MINILM.but("left padding", tokenizer_config={"padding_side": "left"}), "cross-encoder", 512),
    Served(Layout("DiTy/cross-encoder-russian-msmarco", "bert", bert(), {}, LONG), "cross-encoder", 512),
    Served(M3, "cross-encoder", 8192),
    Served(
        M3.but(
            "bge-reranker-base", config={"max_position_embeddings": 514}, tokenizer_config={"model_max_length": 512}
        ),
        "cross-encoder",
        512,
    ),
    Served(M3.but("dragonkue/bge-reranker-v2-m3-ko", tokenizer_config=LONG), "cross-encoder", 8192),
    Served(Layout("cross-encoder/mmarco-mMiniLMv2-L12-H384-v1", "xlm-roberta", xlmr(), {}, LONG), "cross-encoder", 512),
    Served(M3.but("a causal twin's settings", config={"use_cache": True, "is_decoder": False}), "cross-encoder", 8192),
    Served(ELECTRA, "cross-encoder", 512),
    Served(STSB, "cross-encoder", 512),
    Served(
        Layout(
            "cross-encoder/quora-distilbert",
            "distilbert",
            config("distilbert", "DistilBertForSequenceClassification", max_position_embeddings=512),
            {},
            LONG,
        ),
        "cross-encoder",
        512,
    ),
    Served(
        Layout(
            "antoinelouis/crossencoder-camembert-base-mmarcoFR",
            "roberta",
            {**roberta(), "model_type": "camembert", "architectures": ["CamembertForSequenceClassification"]},
            {},
            LONG,
        ),
        "cross-encoder",
        512,
    ),
    Served(MXBAI_V1, "cross-encoder", 512),
    Served(MXBAI_V1.but("mxbai-rerank-xsmall-v1", tokenizer_config={"model_max_length": 512}), "cross-encoder", 512),
    Served(GTE_MODERN, "cross-encoder", 8192),
    Served(
        GTE_MODERN.but("granite-embedding-reranker-english-r2", tokenizer_config={"model_max_length": 8192}),
        "cross-encoder",
        8192,
    ),
    Served(GTE_MODERN.but("pooling of the first token", config={"classifier_pooling": "cls"}), "cross-encoder", 8192),
    Served(GTE_NATIVE, "cross-encoder", 8192),
    Served(GTE_NEW, "cross-encoder", 8192),
    Served(JINA_V2, "cross-encoder", 1024),
    Served(MONOBERT, "cross-encoder", 512),
    Served(MONOBERT.but("nboost/pt-bert-base-uncased-msmarco", options={"positive": "LABEL_1"}), "cross-encoder", 512),
    Served(
        MONOBERT.but("named labels", config={"id2label": {"0": "no", "1": "yes"}}, options={"positive": "yes"}),
        "cross-encoder",
        512,
    ),
    encoder("ours/albert", "albert", "bert", "Albert", type_vocab_size=2),
    encoder("ours/bigbird", "big_bird", "bert", "BigBird", attention_type="original_full"),
    encoder("ours/convbert", "convbert", "bert", "ConvBert"),
    encoder("ours/data2vec", "data2vec-text", "roberta", "Data2VecText", **ROBERTA),
    encoder("ours/deberta-v1", "deberta", "bert", "Deberta", type_vocab_size=0),
    encoder("ours/ernie", "ernie", "bert", "Ernie", type_vocab_size=4),
    encoder("ours/eurobert", "eurobert", "modernbert", "EuroBert", mask_token_id=4),
    encoder("ours/fnet", "fnet", "bert", "FNet", type_vocab_size=4),
    encoder("ours/longformer", "longformer", "roberta", "Longformer", **ROBERTA),
    encoder("ours/megatron", "megatron-bert", "bert", "MegatronBert"),
    encoder("ours/mobilebert", "mobilebert", "bert", "MobileBert"),
    encoder("ours/mpnet", "mpnet", "roberta", "MPNet", **ROBERTA),
    encoder("ours/nomic", "nomic_bert", "bert", "NomicBert"),
    encoder("ours/rembert", "rembert", "bert", "RemBert"),
    encoder("ours/prelayernorm", "roberta-prelayernorm", "roberta", "RobertaPreLayerNorm", **ROBERTA),
    encoder("ours/roformer", "roformer", "bert", "RoFormer"),
    encoder("ours/squeezebert", "squeezebert", "bert", "SqueezeBert"),
    encoder("ours/xlm-r-xl", "xlm-roberta-xl", "xlm-roberta", "XLMRobertaXL", **ROBERTA),
    Served(QWEN3, "qwen3-reranker", 8192),
    Served(
        QWEN3.but(
            "Qwen's chat template",
            files={"chat_template.jinja": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"},
        ),
        "qwen3-reranker",
        8192,
    ),
    Served(
        QWEN3.but("the template of sentence-transformers", files={"chat_template.jinja": template()}),
        "qwen3-reranker",
        8192,
    ),
    Served(
        QWEN3.but(
            "modules",
            files={
                "modules.json": [*MODULES, LOGIT_SCORE],
                "1_LogitScore/config.json": {"true_token_id": "yes", "false_token_id": "no"},
                "chat_template.jinja": template(),
            },
        ),
        "qwen3-reranker",
        8192,
    ),
    Served(
        QWEN3.but("sharded and untied, as the 8B is", config={"tie_word_embeddings": False}), "qwen3-reranker", 8192
    ),
    Served(QWEN3_CLS, "qwen3-reranker", 8192),
    Served(QWEN3_OURS, "qwen3-reranker", 8192),
    Served(
        QWEN3_OURS.but("named", files={"chat_template.jinja": None}, options={"name": "qwen3-reranker"}),
        "qwen3-reranker",
        8192,
    ),
    Served(MXBAI_V2, "mxbai-rerank-base-v2", 8192),
    Served(
        MXBAI_V2.but(
            "a conversion",
            config={"architectures": ["Qwen2ForSequenceClassification"]},
            options={"name": "mxbai-rerank-base-v2"},
        ),
        "mxbai-rerank-base-v2",
        8192,
    ),
    Served(GEMMA, "bge-reranker-v2-gemma", 1024),
    Served(
        GEMMA.but(
            "a conversion",
            config={"architectures": ["GemmaForSequenceClassification"]},
            options={"name": "bge-reranker-v2-gemma"},
        ),
        "bge-reranker-v2-gemma",
        1024,
    ),
    Served(NEMOTRON, "llama-nemotron-rerank", 8192),
    Served(NEMOTRON.but("no temperature", config={"temperature": 1, "pooling": "avg"}), "llama-nemotron-rerank", 8192),
    Served(ETTIN, "module-chain", 8192),
    Served(
        ETTIN.but(
            "mean pooling and 512 tokens",
            files={
                "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
                "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
            },
        ),
        "module-chain",
        512,
    ),
    Served(ZERANK, "zerank", 32_768),
    Served(
        Layout("zeroentropy/zerank-1-small", "qwen", ZERANK.config, {}, {"model_max_length": 131_072}),
        "zerank",
        32_768,
    ),
    Served(ZERANK.but("a copy", options={"model": "ours/copy", "name": "zerank"}), "zerank", 32_768),
    Served(QWEN3_VL, "qwen3-vl-reranker", 10_240),
    Served(JINA_V3, "jina-reranker-v3", 131_072),
    Served(JINA_V3_5, "jina-reranker-v3.5", 131_072),
    Served(JINA_V3_5.but("named", options={"name": "jina-reranker-v3"}), "jina-reranker-v3", 131_072),
    Served(JINA_V3.but("fewer positions", config={"max_position_embeddings": 40_960}), "jina-reranker-v3", 40_960),
    Served(
        JINA_V3.but("a chat template of its base", files={"chat_template.jinja": template()}),
        "jina-reranker-v3",
        131_072,
    ),
]
