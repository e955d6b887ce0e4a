"""Random-weight models of the real architectures, with tokenizers of the real types, trained in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from families import enlarge
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

MAX_TOKENS = 64
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIKLMNOPRSTUVWYZéèüñçøß",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "的一是不了人我在有他这中大来上国日本語東京ひらがなカタカナ",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "अआइईउकखगघचजटडतदनपबमयरलवसहािीुे",
    "가나다라마바사아자차카타파하한국",
    "0123456789.,;:!?()-_/+*=\"'",
    "🐼🚀❤️👩‍💻🇺🇳™½ﬁ",
    "e\u0301o\u0308n\u0303a\u030a",
)
_BREAKS = (" ", " ", " ", "  ", "\n", "\t", "\u00a0")


def random_text(rng: random.Random, max_words: int) -> str:
    """Words of many scripts; an empty text now and then."""
    words = (_random_word(rng) for _ in range(rng.randint(0, max_words)))
    return "".join(word + rng.choice(_BREAKS) for word in words)


def _random_word(rng: random.Random) -> str:
    alphabet = rng.choice(_ALPHABETS)
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 8)))


def corpus() -> list[str]:
    rng = random.Random(1)
    return [random_text(rng, 30) for _ in range(400)]


def wordpiece() -> transformers.PreTrainedTokenizerBase:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        corpus(), trainers.WordPieceTrainer(vocab_size=800, special_tokens=special, show_progress=False)
    )
    return transformers.BertTokenizer(vocab=backend.get_vocab(), model_max_length=MAX_TOKENS)


def unigram(special: list[str], unknown: str) -> list[tuple[str, float]]:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=special, unk_token=unknown, show_progress=False)
    backend.train_from_iterator(corpus(), trainer)
    # Special tokens score 0, more than any piece, as in the published files: Viterbi prefers them.
    return [(piece, score) for piece, score in json.loads(backend.to_str())["model"]["vocab"]]


def xlmr() -> transformers.PreTrainedTokenizerBase:
    vocab = unigram(["<s>", "<pad>", "</s>", "<unk>"], "<unk>")
    return transformers.XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)], model_max_length=MAX_TOKENS)


def deberta() -> transformers.PreTrainedTokenizerBase:
    vocab = unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]")
    return transformers.DebertaV2Tokenizer(vocab=[*vocab, ("[MASK]", 0.0)], model_max_length=MAX_TOKENS)


def byte_bpe_backend(special: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(corpus(), trainer)
    return backend


def byte_bpe() -> transformers.PreTrainedTokenizerBase:
    backend = byte_bpe_backend(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "<|endoftext|>"])
    ids = [("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", backend.token_to_id("[SEP]"))]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ids
    )
    return wrap(backend)


def wrap(backend: Tokenizer, **kwargs: Any) -> transformers.PreTrainedTokenizerBase:
    names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
        **kwargs,
    )


def roberta() -> transformers.PreTrainedTokenizerBase:
    backend = byte_bpe_backend(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return wrap_xlmr(backend)


def wrap_xlmr(backend: Tokenizer) -> transformers.PreTrainedTokenizerBase:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        cls_token="<s>",
        sep_token="</s>",
    )


def _sizes(extra_positions: int = 0, **kwargs: Any) -> dict[str, Any]:
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": MAX_TOKENS + extra_positions,
        "num_labels": 1,
    }
    return sizes | kwargs


_TOKENIZERS: dict[str, Callable[[], transformers.PreTrainedTokenizerBase]] = {
    "bert": wordpiece,
    "electra": wordpiece,
    "distilbert": wordpiece,
    "xlm-roberta": xlmr,
    "gte": xlmr,
    "roberta": roberta,
    "modernbert": byte_bpe,
    "modernbert-mean": byte_bpe,
    "deberta-v2": deberta,
}

_CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _sizes(),
    "electra": _sizes(embedding_size=16),
    "distilbert": {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": MAX_TOKENS,
        "num_labels": 1,
    },
    "xlm-roberta": _sizes(2, type_vocab_size=1),
    "gte": _sizes(type_vocab_size=1),
    "roberta": _sizes(2, type_vocab_size=1),
    # Local attention of 16 is shorter than the longest pair, so that the sliding window is in play.
    "modernbert": _sizes(local_attention=16),
    "modernbert-mean": _sizes(local_attention=16, classifier_pooling="mean"),
    "deberta-v2": _sizes(
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        pooler_hidden_size=32,
    ),
}


def _model_type(family: str) -> str:
    return family.removesuffix("-mean")


FAMILIES = tuple(name for name in _CONFIGS if _model_type(name) in transformers.CONFIG_MAPPING)


def save_tokenizer(family: str, folder: Path) -> transformers.PreTrainedTokenizerBase:
    tokenizer = _TOKENIZERS[family]()
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(family: str, folder: Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Write a folder as a hub would hold it. Weights are large enough that scores differ visibly."""
    tokenizer = save_tokenizer(family, folder)
    config = transformers.AutoConfig.for_model(
        _model_type(family),
        **_CONFIGS[family]
        | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        | {"eos_token_id": None, "cls_token_id": None, "sep_token_id": None}
        | overrides,
    )
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    enlarge(model, seed)
    model.save_pretrained(folder)
    return folder


def save_chain(family: str, folder: Path, *, pooling: str = "cls") -> Path:
    """An encoder with a head of modules, as sentence-transformers saves ettin-reranker."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    save_model(family, folder)
    encoder = transformers.AutoModel.from_pretrained(folder)
    enlarge(encoder, seed=0)
    encoder.save_pretrained(folder)
    head = [
        Dense(32, 24, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(24),
        Dense(24, 8, activation_function=torch.nn.Tanh()),
        Dense(8, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    for module in head:
        enlarge(module, seed=1)
    model = CrossEncoder(
        modules=[Transformer(str(folder)), Pooling(32, cast(Any, pooling)), *head], activation_fn=torch.nn.Identity()
    )
    for path in folder.iterdir():
        path.unlink()
    model.save_pretrained(str(folder), create_model_card=False)
    return folder
