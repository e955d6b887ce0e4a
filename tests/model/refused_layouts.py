"""Layouts that are refused, each with the reason and a twin that is served."""

from __future__ import annotations

from typing import Any

from layouts import (
    CHAIN,
    ELECTRA,
    ETTIN,
    GEMMA,
    GTE_MODERN,
    GTE_NEW,
    JINA_V2,
    JINA_V3,
    JINA_V3_5,
    LFS,
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
    STSB,
    WEIGHTS,
    ZERANK,
    Files,
    Layout,
    Refused,
    config,
)
from served_layouts import encoder
from test_templates import template

QUANTIZED = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
POSITIONS = {"position_embedding_type": "relative_key_query"}


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": {str(at): name for at, name in enumerate(names)}}


def other(name: str, model_type: str, architecture: str, tokenizer: str = "bert", **more: Any) -> Layout:
    return Layout(name, tokenizer, config(model_type, architecture, max_position_embeddings=512, **more), {}, LONG)


def of(layout: Layout, name: str, architecture: str, **more: Any) -> Layout:
    """A repository with the encoder of another, and another head."""
    return layout.but(name, config={"architectures": [architecture], **more})


def alone(layout: Layout, change: str, *, files: Files) -> Layout:
    """Without the model's own weights."""
    return layout.but(change, files={WEIGHTS: None, **files})


REFUSED = [
    # Other tasks.
    Refused(
        of(MINILM, "all-MiniLM-L6-v2", "BertModel"), "no sequence-classification head", MINILM, "encoder without a head"
    ),
    Refused(of(M3, "bge-m3", "XLMRobertaModel"), "no sequence-classification head", M3, "encoder without a head"),
    Refused(
        of(GTE_MODERN, "gte-modernbert-base", "ModernBertModel"),
        "no sequence-classification head",
        GTE_MODERN,
        "without a head",
    ),
    Refused(
        of(MINILM, "bert-base-uncased", "BertForMaskedLM"), "fills in masked words", MINILM, "fills in masked words"
    ),
    Refused(of(MINILM, "splade-v3", "BertForMaskedLM"), "sparse embeddings", MINILM, "fills in masked words"),
    Refused(of(MINILM, "colbertv2.0", "HF_ColBERT"), "late interaction", MINILM),
    Refused(of(MINILM, "bert-base-NER", "BertForTokenClassification"), "labels single tokens", MINILM, "single tokens"),
    Refused(of(MINILM, "squad", "BertForQuestionAnswering"), "finds answers within a text", MINILM, "within a text"),
    Refused(
        of(MINILM, "pretraining", "BertForPreTraining"),
        "no sequence-classification head",
        MINILM,
        "before any training",
    ),
    Refused(
        MINILM.but("sentiment", config=labels("negative", "neutral", "positive")),
        r"3 labels .*'neutral'",
        MINILM,
        "with labels",
    ),
    Refused(
        MXBAI_V1.but("nli-deberta-v3-base", config=labels("contradiction", "entailment", "neutral")),
        r"3 labels .*'entailment'",
        MXBAI_V1,
    ),
    Refused(STSB.but("emotions", config=labels(*(f"e{at}" for at in range(28)))), "28 labels .* and 23 more", STSB),
    Refused(
        MONOBERT.but("no label named", options={"positive": None}), r"2 labels .*Set model\.positive_label", MONOBERT
    ),
    Refused(MONOBERT.but("a label that is none", options={"positive": "LABEL_2"}), "'LABEL_2' names none", MONOBERT),
    Refused(MINILM.but("a label that is not needed", options={"positive": 0}), "chooses one of two labels", MINILM),
    Refused(QWEN3.but("a label of a generative model", options={"positive": 1}), "has no labels", QWEN3),
    # Other generative models.
    Refused(
        other("castorini/monot5-base-msmarco", "t5", "T5ForConditionalGeneration"),
        "generative model",
        MINILM,
        "reads a text or an image first",
    ),
    Refused(other("ours/t5-classifier", "t5", "T5ForSequenceClassification"), "where a decoder ends", MINILM),
    Refused(
        other("meta-llama/Llama-3.2-1B", "llama", "LlamaForCausalLM", "llama"),
        "generative model",
        NEMOTRON,
        "generative language model",
    ),
    Refused(
        other("castorini/rank_zephyr_7b_v1_full", "mistral", "MistralForCausalLM", "llama"),
        "generative model",
        NEMOTRON,
    ),
    Refused(
        QWEN3.but(
            "a fine-tune with a template of its own",
            files={"chat_template.jinja": template("Find code")},
            options={"model": "ours/model"},
        ),
        "template of its own that no recipe has",
        QWEN3_OURS,
    ),
    Refused(
        QWEN3_OURS.but("no template", files={"chat_template.jinja": None}),
        r"neither its name nor its files.*model\.recipe=qwen3-reranker",
        QWEN3_OURS,
    ),
    Refused(QWEN3_CLS.but("no template", options={"model": "ours/model"}), "neither its name nor its files", QWEN3_CLS),
    Refused(
        MXBAI_V2.but("no template", options={"model": "ours/model"}), r"model\.recipe=mxbai-rerank-base-v2", MXBAI_V2
    ),
    Refused(MXBAI_V2.but("another size", config={"hidden_size": 2048}), "No recipe serves", MXBAI_V2),
    Refused(GEMMA.but("no template", options={"model": "ours/model"}), r"model\.recipe=bge-reranker-v2-gemma", GEMMA),
    Refused(
        NEMOTRON.but("no template", options={"model": "ours/model"}), r"model\.recipe=llama-nemotron-rerank", NEMOTRON
    ),
    Refused(
        QWEN3.but("a recipe for another family", options={"name": "cross-encoder"}), "does not serve this model", QWEN3
    ),
    Refused(
        MINILM.but("a recipe for another family", options={"name": "qwen3-reranker"}),
        "does not serve this model",
        MINILM,
    ),
    Refused(MINILM.but("a recipe that is none", options={"name": "bert"}), "is not a recipe", MINILM),
    Refused(
        QWEN3.but(
            "answers of another family", files={"1_LogitScore/config.json": {"true_token_id": 7, "false_token_id": 8}}
        ),
        "trained for another prompt",
        QWEN3,
    ),
    Refused(
        QWEN3.but("answers without a token", files={"1_LogitScore/config.json": {"true_token_id": None}}),
        "names no tokens as the answers",
        QWEN3,
    ),
    Refused(QWEN3.but("the tokenizer of another family", tokenizer="gemma"), r"does not know <\|im_start\|>", QWEN3),
    Refused(QWEN3.but("too few positions", config={"max_position_embeddings": 128}), "too little would be left", QWEN3),
    # Code of their own.
    Refused(
        of(NEMOTRON, "llama-embed-nemotron-8b", "LlamaBidirectionalModel"),
        "code of its own",
        NEMOTRON,
        "with code of its own",
    ),
    Refused(NEMOTRON.but("another pooling", config={"pooling": "last"}), "code of its own", NEMOTRON),
    Refused(NEMOTRON.but("a temperature of nothing", config={"temperature": 0}), "temperature", NEMOTRON),
    Refused(
        MINILM.but(
            "jina-reranker-v1-tiny-en",
            config={"auto_map": {"AutoModelForSequenceClassification": "modeling_bert.Jina"}},
        ),
        "code of its own for a class that transformers has",
        MINILM,
        "with code of its own",
    ),
    Refused(JINA_V3.but("no marks", tokenizer="qwen"), r"does not know <\|embed_token\|>", JINA_V3),
    Refused(JINA_V3_5.but("no marks", tokenizer="qwen"), r"does not know <\|\w+_token\|>", JINA_V3_5),
    Refused(JINA_V3.but("a Qwen2", config={"model_type": "qwen2"}), "all documents of a request at once", JINA_V3),
    Refused(JINA_V3.but("few tokens", tokenizer_config={"model_max_length": 512}), "too little would be left", JINA_V3),
    Refused(JINA_V3.but("a label", options={"positive": 1}), "has no labels", JINA_V3),
    Refused(QWEN3.but("named", options={"name": "jina-reranker-v3"}), "does not serve this model", QWEN3),
    Refused(
        other(
            "jinaai/jina-reranker-m0", "qwen2_vl", "JinaVLForRanking", "qwen", auto_map={"AutoModel": "modeling.Own"}
        ),
        "reads images",
        QWEN3,
    ),
    Refused(
        other(
            "BAAI/bge-reranker-v2-minicpm-layerwise",
            "minicpm",
            "LayerWiseMiniCPMForCausalLM",
            auto_map={"AutoModelForCausalLM": "modeling.Own"},
        ),
        "code of its own",
        MINILM,
    ),
    Refused(
        other(
            "BAAI/bge-reranker-v2.5-gemma2-lightweight",
            "cost_wise_gemma",
            "CostWiseGemmaForCausalLM",
            auto_map={"AutoModelForCausalLM": "modeling.Own"},
        ),
        "code of its own",
        GEMMA,
    ),
    Refused(
        GTE_NEW.but("another scaling", config={"rope_scaling": {"type": "ntk", "factor": 8.0, "mixed_b": 0.7}}),
        "code of its own",
        GTE_NEW,
    ),
    Refused(JINA_V2.but("another activation", config={"hidden_act": "gelu_new"}), "code of its own", JINA_V2),
    Refused(
        MINILM.but("code of a tokenizer", tokenizer_config={"auto_map": {"AutoTokenizer": ["tokenization.Own", None]}}),
        "code of its own",
        MINILM,
    ),
    # Encoders that are not run.
    Refused(
        other("google/bigbird", "big_bird", "BigBirdForSequenceClassification"),
        "sparse blocks",
        encoder("x", "big_bird", "bert", "BigBird", attention_type="original_full").layout,
    ),
    Refused(other("ours/yoso", "yoso", "YosoForSequenceClassification"), "hashes at random", MINILM),
    Refused(
        other("ours/nystromformer", "nystromformer", "NystromformerForSequenceClassification"), "approximation", MINILM
    ),
    Refused(other("ours/xlnet", "xlnet", "XLNetForSequenceClassification"), "last place of a row", MINILM),
    Refused(other("google/canine-s", "canine", "CanineForSequenceClassification"), "characters or bytes", MINILM),
    Refused(
        other("ours/layoutlm", "layoutlm", "LayoutLMForSequenceClassification"),
        "more than a query and a document",
        MINILM,
    ),
    Refused(other("ours/luke", "luke", "LukeForSequenceClassification"), "more than a query and a document", MINILM),
    Refused(other("ours/bart", "bart", "BartForSequenceClassification"), "where a decoder ends", MINILM),
    Refused(other("ours/funnel", "funnel", "FunnelForSequenceClassification"), "type of its own", MINILM),
    Refused(other("ours/ibert", "ibert", "IBertForSequenceClassification"), "whole numbers", MINILM),
    Refused(
        other("ours/rocbert", "roc_bert", "RoCBertForSequenceClassification"),
        "not compared with plain transformers",
        MINILM,
    ),
    Refused(
        other("ours/llama-classifier", "llama", "LlamaForSequenceClassification", "llama"), "near random", NEMOTRON
    ),
    Refused(other("ours/unknown", "made_up", "MadeUpForSequenceClassification"), "No recipe serves", MINILM),
    # Weights.
    Refused(QWEN3.but("GPTQ", config=QUANTIZED), r"quantized \(gptq", QWEN3, r"quantized \(gptq"),
    Refused(
        QWEN3.but("AWQ", config={"quantization_config": {"quant_method": "awq"}}), r"quantized \(awq", QWEN3, r"\(awq"
    ),
    Refused(
        QWEN3.but("FP8", config={"quantization_config": {"quant_method": "fp8"}}), r"quantized \(fp8", QWEN3, r"\(fp8"
    ),
    Refused(
        MINILM.but("compressed", config={"compression_config": {"format": "pack"}}), "is quantized", MINILM, "quantized"
    ),
    Refused(alone(MINILM, "pickle", files={"pytorch_model.bin": "x"}), "only as a pickle", MINILM),
    Refused(alone(MINILM, "ONNX", files={"onnx/model.onnx": "x"}), "model.onnx .ONNX", MINILM),
    Refused(alone(MINILM, "OpenVINO", files={"openvino/openvino_model.xml": "x"}), "OpenVINO", MINILM),
    Refused(
        alone(
            MINILM,
            "OpenVINO with its weights",
            files={"openvino_model.xml": "x", "openvino_model.bin": "x"},
        ),
        "openvino_model.xml .OpenVINO",
        MINILM,
    ),
    Refused(alone(QWEN3, "GGML", files={"ggml-model-q4_0.bin": "x"}), "ggml-model-q4_0.bin .GGML", QWEN3),
    Refused(alone(MINILM, "TensorFlow", files={"tf_model.h5": "x"}), "TensorFlow", MINILM),
    Refused(alone(QWEN3, "GGUF", files={"model-Q4_K_M.gguf": "x"}), r"GGUF .llama\.cpp", QWEN3),
    Refused(
        alone(MINILM, "another name", files={"model.fp16.safetensors": "x"}), "name that is not the model's own", MINILM
    ),
    Refused(alone(MINILM, "nothing", files={}), "has no model.safetensors", MINILM),
    Refused(
        alone(QWEN3, "LoRA", files={"adapter_config.json": {}, "adapter_model.safetensors": "x"}),
        "merge_and_unload",
        QWEN3,
        "adapter for another",
    ),
    Refused(
        MINILM.but("weights in a file of another name", config={"transformers_weights": "other.safetensors"}),
        "'other.safetensors' in config.json.*model.safetensors, and remove",
        MINILM,
    ),
    Refused(MINILM.but("weights not pulled", files={WEIGHTS: LFS}), "Git LFS pointer", MINILM),
    Refused(MINILM.but("positions of BERT's variants", config=POSITIONS), "relative_key_query", MINILM),
    Refused(
        MINILM.but("positions of ALiBi", config={"position_embedding_type": "alibi"}),
        "alibi.*does not compute",
        MINILM.but("absolute positions named", config={"position_embedding_type": "absolute"}),
    ),
    # Folders without a config.json.
    Refused(
        alone(QWEN3, "GGUF alone", files={"model.gguf": "x"}).but("x", config=None),
        "GGUF",
        QWEN3,
        "no model of transformers",
    ),
    Refused(
        alone(
            QWEN3,
            "LoRA alone",
            files={
                "adapter_config.json": {"base_model_name_or_path": "Qwen/Qwen3-Reranker-0.6B"},
                "adapter_model.safetensors": "x",
            },
        ).but("x", config=None),
        "merge_and_unload",
        QWEN3,
        "adapter for another model .Qwen/Qwen3-Reranker-0.6B",
    ),
    Refused(MINILM.but("no settings", config=None), "no config.json", MINILM, "no model of transformers"),
    Refused(
        alone(
            MINILM,
            "older sentence-transformers",
            files={
                "modules.json": [{**MODULES[0], "path": "0_Transformer"}],
                "0_Transformer/config.json": dict(MINILM.config or {}),
            },
        ).but("x", config=None),
        "in the folder 0_Transformer",
        MINILM,
    ),
    # Files of sentence-transformers.
    Refused(
        MINILM.but(
            "a prompt before its texts",
            files={"config_sentence_transformers.json": {"prompts": {"rank": "Rank: "}, "default_prompt_name": "rank"}},
        ),
        "'Rank: '",
        MINILM,
    ),
    Refused(
        MINILM.but(
            "another tokenizer",
            files={"modules.json": MODULES, "sentence_bert_config.json": {"tokenizer_name_or_path": "x"}},
        ),
        "tokenizer_name_or_path",
        MINILM,
    ),
    Refused(MINILM.but("modules that are none", files={"modules.json": {"a": 1}}), "modules.json", MINILM),
    # Tokenizers.
    Refused(MINILM.but("no tokenizer", files={"tokenizer.json": None, "vocab.txt": None}), "No tokenizer in", MINILM),
    Refused(MINILM.but("tokenizer not pulled", files={"tokenizer.json": LFS}), "Git LFS pointer", MINILM),
    Refused(MINILM.but("damaged tokenizer", files={"tokenizer.json": "{"}), "tokenizer.json", MINILM),
    Refused(
        MINILM.but("cut at the beginning", tokenizer_config={"truncation_side": "left"}),
        "truncation_side='left'",
        MINILM,
    ),
    Refused(
        MINILM.but("one token type", config={"type_vocab_size": 1}), "token types 0 to 1, and the model has 1", MINILM
    ),
    Refused(
        Layout("ours/no maximum", "electra", config("electra", "ElectraForSequenceClassification"), {}, LONG),
        "how many tokens the model reads",
        ELECTRA,
    ),
    Refused(
        NEMOTRON.but("the tokenizer of another family", tokenizer="qwen"),
        r"does not know <\|begin_of_text\|>",
        NEMOTRON,
    ),
    # Damaged settings.
    Refused(MINILM.but("no model_type", config={"model_type": None}), "has no model_type.*add", MINILM),
    Refused(
        MINILM.but("a maximum in quotes", tokenizer_config={"model_max_length": "512"}),
        "'512' as model_max_length, which is no number",
        MINILM,
    ),
    Refused(MINILM.but("too many layers", config={"num_hidden_layers": 10**9}), "num_hidden_layers", MINILM),
    Refused(
        MINILM.but("no list of classes", config={"architectures": "BertForSequenceClassification"}),
        "architectures",
        MINILM,
    ),
    Refused(
        MINILM.but("damaged map", files={"special_tokens_map.json": "{"}),
        "special_tokens_map.json cannot be read",
        MINILM,
    ),
    # Heads of modules, and prompts that share a class.
    Refused(
        ETTIN.but(
            "another pooling", files={"1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "max"}}
        ),
        "pooling_mode 'max', which is not served",
        ETTIN,
    ),
    Refused(
        ETTIN.but("without its last module", files={"modules.json": CHAIN[:-1]}),
        "embedding model and not a reranker",
        ETTIN,
    ),
    Refused(
        ETTIN.but("a module of its own", files={"modules.json": [*CHAIN[:3], {"path": "", "type": "own.Head"}]}),
        "'own.Head', which is code of the model's authors",
        ETTIN,
    ),
    Refused(
        ETTIN.but("another encoder", config={"model_type": "albert", "architectures": ["AlbertModel"]}),
        "chain of modules on an encoder that was not compared",
        ETTIN,
    ),
    Refused(
        ZERANK.but("a copy under another name", options={"model": "ours/copy"}),
        r"neither its name nor its files.*set model\.recipe=zerank\.",
        ZERANK,
    ),
    Refused(
        ZERANK.but("answers of another prompt", files={"1_LogitScore/config.json": {"true_token_id": "yes"}}),
        "trained for another prompt",
        ZERANK,
    ),
    Refused(
        QWEN3_VL.but("as a plain reranker", options={"name": "qwen3-reranker"}), "does not serve this model", QWEN3_VL
    ),
    Refused(
        QWEN3_VL.but("a base model", options={"model": "Qwen/Qwen3-VL-2B-Instruct"}),
        "neither its name nor its files",
        QWEN3_VL,
    ),
    Refused(QWEN3_VL.but("experts", config={"model_type": "qwen3_vl_moe"}), "generative model", QWEN3_VL),
]
