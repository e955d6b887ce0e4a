"""Models of the shapes that people use, with random weights: speed does not depend on what weights say.

Matrices are drawn so that they keep the size of what passes through: with the usual 0.02 all scores are nearly equal,
and rounding would look worse than it is. The tokenizers are of the real types, trained on the demo table's text;
embeddings have as many rows as those of the real model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from workloads import read_texts

ROOT = Path(__file__).parent / ".models"
BUILTIN = Path(__file__).parents[1] / "reranker_batch" / "builtin"
TOKENIZER_SIZE = 8000
INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"
QWEN3_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    f"<Instruct>: {INSTRUCT}\n<Query>: "
)
QWEN3_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
QWEN3_TEMPLATE = (
    QWEN3_PREFIX
    + "{{ (messages | selectattr('role', 'eq', 'query') | list)[0].content }}\n<Document>: "
    + "{{ (messages | selectattr('role', 'eq', 'document') | list)[0].content }}"
    + QWEN3_SUFFIX
    + "\n"  # Jinja drops the last newline of a template
)
ZERANK_TEMPLATE = (
    "<|im_start|>system\n"
    + "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}<|im_end|>\n"
    + "<|im_start|>user\n{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}"
    + "<|im_end|>\n<|im_start|>assistant\n\n"
)


@dataclass(frozen=True)
class Shape:
    """A model's architecture: what its config.json says, and the tokens that its prompt adds to a pair."""

    name: str
    max_tokens: int
    config: dict[str, Any] = field(default_factory=dict)
    recipe: str = "auto"
    prompt: str = ""
    modules: str = ""
    """Which modules sentence-transformers puts behind the model; empty where the model's own head gives the logit."""

    def prompt_tokens(self, tokenizer: Tokenizer) -> int:
        return len(tokenizer.encode(self.prompt, add_special_tokens=False).ids) if self.prompt else 0

    def flops(self, pair_tokens: Sequence[int]) -> float:
        """Work of the plain model on these pairs without padding: matrix products of the layers, and attention.

        All tokens count in all layers, also where an engine is clever and leaves some out. A token of a local layer
        attends to its window alone.
        """
        config = json.loads((folder_of(self) / "config.json").read_text(encoding="utf-8"))
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or hidden // heads
        keys = config.get("num_key_value_heads") or heads
        is_causal = config["model_type"] == "qwen3"
        matrices = 3 if config["model_type"] in _GATED else 2
        weights = hidden * head * (2 * heads + 2 * keys) + matrices * hidden * inner
        work = config["num_hidden_layers"] * 2 * weights * sum(pair_tokens)
        for kind in config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]:
            window = config["local_attention"] + 1 if kind == "sliding_attention" else max(pair_tokens)
            seen = sum(length * min(length, window) for length in pair_tokens)
            work += heads * head * (2 if is_causal else 4) * seen
        return float(work)


_GATED = ("modernbert", "qwen3", "eurobert")
"""Architectures whose feed-forward layers have a third matrix."""


def _encoder(hidden: int, layers: int, heads: int, positions: int, **kwargs: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    sizes |= {"intermediate_size": 4 * hidden, "max_position_embeddings": positions, "initializer_range": hidden**-0.5}
    return sizes | {"num_labels": 1} | kwargs


def _modernbert(hidden: int, layers: int, heads: int, inner: int, **kwargs: Any) -> dict[str, Any]:
    """Two of three layers see 64 tokens on either side; the head reads the mean of all tokens."""
    sizes = _encoder(hidden, layers, heads, 8192, model_type="modernbert", intermediate_size=inner)
    return sizes | {"local_attention": 128, "classifier_pooling": "mean", "cls_token_id": 0, "sep_token_id": 1} | kwargs


def _qwen3(hidden: int, layers: int, inner: int) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner, "model_type": "qwen3"}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    more = {"vocab_size": 151669, "max_position_embeddings": 40960, "tie_word_embeddings": True}
    return sizes | heads | more | {"initializer_range": hidden**-0.5}


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("mini", 512),
        Shape("tiny", 512, _encoder(64, 2, 2, 512, model_type="bert", vocab_size=TOKENIZER_SIZE)),
        Shape("minilm-l6", 512, _encoder(384, 6, 12, 512, model_type="bert", vocab_size=30522)),
        Shape(
            "xlmr-base",
            512,
            _encoder(768, 12, 12, 514, model_type="xlm-roberta", vocab_size=250002, type_vocab_size=1),
        ),
        Shape(
            "bge-reranker-v2-m3",
            8192,
            _encoder(1024, 24, 16, 8194, model_type="xlm-roberta", vocab_size=250002, type_vocab_size=1),
        ),
        Shape("tiny-modernbert", 512, _modernbert(64, 4, 2, 96, vocab_size=TOKENIZER_SIZE)),
        Shape("gte-reranker-modernbert-base", 8192, _modernbert(768, 22, 12, 1152, vocab_size=50368)),
        Shape(
            "qwen3-reranker-0.6b",
            8192,
            _qwen3(1024, 28, 3072),
            recipe="qwen3-reranker",
            prompt=f"{QWEN3_PREFIX}\n<Document>: {QWEN3_SUFFIX}",
        ),
        Shape(
            "zerank-1-small-4-layers",
            32768,
            _qwen3(2048, 4, 6144),
            recipe="zerank",
            prompt=ZERANK_TEMPLATE.partition("{{")[0]
            + "<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n",
            modules="answer",
        ),
        Shape("ettin-reranker-32m", 8192, _modernbert(384, 10, 6, 576, vocab_size=50368), modules="chain"),
        Shape(
            "eurobert-210m",
            8192,
            _encoder(768, 12, 12, 8192, model_type="eurobert", vocab_size=128256, intermediate_size=3072)
            | {"num_key_value_heads": 12, "classifier_pooling": "bos", "mask_token_id": 4},
        ),
    )
}
"""The tiny ones are for trying the harness out; `mini` is the model that ships with the package."""


def folder_of(shape: Shape) -> Path:
    return BUILTIN / "mini" if shape.name == "mini" else ROOT / shape.name


def write(shape: Shape) -> Path:
    """The model's folder; written at the first call, in float32, with the same weights each time."""
    folder = folder_of(shape)
    if folder.exists():
        return folder
    import torch
    import transformers

    aside = folder.with_name(f"{folder.name}.{os.getpid()}")
    tokenizer = _TOKENIZERS[shape.config["model_type"]](shape.max_tokens)
    tokenizer.save_pretrained(aside)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    settings = dict(shape.config) | ids
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    is_causal = bool(shape.prompt)
    kind: Any = transformers.AutoModelForCausalLM if is_causal else transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = kind.from_config(config)
    (model.base_model if shape.modules == "chain" else model).save_pretrained(aside)
    if shape.modules:
        _MODULES[shape.modules](aside)
    try:
        aside.rename(folder)
    except OSError:  # another run was quicker
        shutil.rmtree(aside)
    return folder


def _saved_with(folder: Path, transformer: Any, modules: Sequence[Any]) -> None:
    """The folder as sentence-transformers saves a CrossEncoder of these modules."""
    import sentence_transformers
    import torch

    model = sentence_transformers.CrossEncoder(modules=[transformer, *modules], activation_fn=torch.nn.Identity())
    shutil.rmtree(folder)
    model.save_pretrained(str(folder), create_model_card=False)


def _save_chain(folder: Path) -> None:
    import torch
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    encoder = Transformer(str(folder))
    size = encoder.get_embedding_dimension()
    head = [
        Pooling(size, "cls"),
        Dense(size, size, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(size),
        Dense(size, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    _saved_with(folder, encoder, head)


def _save_answer(folder: Path) -> None:
    """The logit is that of one token, as in zerank."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore

    (folder / "chat_template.jinja").write_text(ZERANK_TEMPLATE, encoding="utf-8")
    transformer = Transformer(str(folder), transformer_task="text-generation")
    _saved_with(folder, transformer, [LogitScore(true_token_id=transformer.tokenizer.get_vocab()["Yes"])])


_MODULES: dict[str, Callable[[Path], None]] = {"chain": _save_chain, "answer": _save_answer}


def _texts() -> list[str]:
    import random

    _, words = read_texts(random.Random(0))
    return [" ".join(words[at : at + 100]) for at in range(0, len(words), 100)]


def _wordpiece(max_tokens: int) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(BUILTIN / "mini", model_max_length=max_tokens)


def _unigram(max_tokens: int) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=TOKENIZER_SIZE, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(_texts()[::4], trainer)  # enough for its size, and minutes less
    vocab = [(piece, score) for piece, score in json.loads(backend.to_str())["model"]["vocab"]]
    return transformers.XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)], model_max_length=max_tokens)


def _trained_bpe(words: Any, special: Sequence[str] = ()) -> Tokenizer:
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_SIZE,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*_texts(), "yes\nno\nYes\nNo\n" * 1000], trainer)
    return backend


def _marked_bpe(max_tokens: int) -> Any:
    import transformers
    from tokenizers import pre_tokenizers, processors

    names = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    backend = _trained_bpe(pre_tokenizers.ByteLevel(False), [*names.values()])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )


def _chat_bpe(max_tokens: int) -> Any:
    import transformers
    from tokenizers import Regex, pre_tokenizers

    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    split = [pre_tokenizers.Split(Regex(words), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    backend = _trained_bpe(pre_tokenizers.Sequence(split))
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.add_tokens(["<think>", "</think>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=QWEN3_TEMPLATE,
    )


_TOKENIZERS: dict[str, Callable[[int], Any]] = {
    "bert": _wordpiece,
    "xlm-roberta": _unigram,
    "modernbert": _marked_bpe,
    "qwen3": _chat_bpe,
    "eurobert": _marked_bpe,
}
