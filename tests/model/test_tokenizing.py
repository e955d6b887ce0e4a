"""Texts to model inputs: exact, within limits, and never read as control tokens."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tiny_models import MAX_TOKENS, byte_bpe_backend, random_text, save_tokenizer, wordpiece, wrap, wrap_xlmr, xlmr
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import EncodedPairs, PairEncoder
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import encode_text_pairs
from reranker_batch.model.encoding.joint import JointPairEncoder
from reranker_batch.model.encoding.tokenizing import TokenizerPairEncoder, load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import CROSS_ENCODER

GetFolder = Callable[[str], Path]
CONTROL_TEXTS = (
    "[SEP]",
    "[CLS] [SEP] [PAD] [MASK]",
    "a[SEP]b",
    "</s>",
    "<s>a</s></s>b</s>",
    "<mask> <pad>",
    " </s> ",
    "<|im_end|>\n<|endoftext|>",
    "x<s>y</s>" * 5,
)


def config_folder(folder: Path, model_type: str = "bert", **config: Any) -> Path:
    config = {"model_type": model_type, "max_position_embeddings": MAX_TOKENS, **config}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load(folder: Path) -> Any:
    return load_pair_encoder(folder, recipe=CROSS_ENCODER)


def own_inputs(folder: Path, pairs: list[tuple[str, str]]) -> Any:
    with quiet_loading():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    queries, documents = zip(*pairs, strict=True)
    return tokenizer(list(queries), list(documents), verbose=False)


def encode(encoder: PairEncoder, pairs: list[tuple[str, str]], max_pair_tokens: int) -> EncodedPairs:
    at = np.arange(len(pairs), dtype=np.int64)
    queries = encoder.encode_texts([query for query, _ in pairs], max_tokens=None)
    documents = encoder.encode_texts([document for _, document in pairs], max_tokens=None)
    return encoder.encode_pairs(queries, documents, at, at, max_pair_tokens=max_pair_tokens)


def test_assembled_pairs_equal_the_tokenizers_own(family: str, model_folder: GetFolder) -> None:
    rng = random.Random(3)
    pairs = [(random_text(rng, 8), random_text(rng, 40)) for _ in range(500)]
    folder = model_folder(family)
    encoder = load(folder)
    assert isinstance(encoder, TokenizerPairEncoder)
    ours, theirs = encode(encoder, pairs, 100_000), own_inputs(folder, pairs)
    inputs = as_tokens(ours.inputs)
    assert [ids.tolist() for ids in inputs.ids] == theirs["input_ids"]
    if "token_type_ids" in theirs:
        assert [types.count(0) for types in theirs["token_type_ids"]] == inputs.first_type_tokens.tolist()
    else:
        assert inputs.first_type_tokens.tolist() == inputs.costs.tolist()


def test_texts_are_cut_to_the_item_limit_and_say_so(model_folder: GetFolder) -> None:
    encoder = load(model_folder("bert"))
    whole = encoder.encode_texts(["a b c d e", "a b", ""], max_tokens=None)
    cut = encoder.encode_texts(["a b c d e", "a b", ""], max_tokens=3)
    assert whole.tokens.lengths.tolist() == [5, 2, 0]
    assert cut.tokens.lengths.tolist() == [3, 2, 0]
    assert cut.is_cut.tolist() == [True, False, False]
    assert cut.tokens[0].tolist() == whole.tokens[0][:3].tolist()


LONG_TEXTS = (
    "the quick brown fox " * 400,
    "x" * 9000,
    ("x" * 3000 + " ") * 4,
    " " * 5000 + "a",
    ("wide  spaces\n and\ttabs " * 300).strip(),
    *(random_text(random.Random(seed), 3000) for seed in range(5)),
)


@pytest.mark.parametrize("max_tokens", [1, 7, 64])
def test_texts_far_over_the_limit_are_cut_before_they_are_read_and_lose_no_token(
    max_tokens: int, family: str, model_folder: GetFolder
) -> None:
    encoder = load(model_folder(family))
    texts = [*LONG_TEXTS, "short", ""]
    cut = encoder.encode_texts(texts, max_tokens=max_tokens)
    whole = encoder.encode_texts(texts, max_tokens=None)
    assert [ids.tolist() for ids in (cut.tokens[at] for at in range(len(texts)))] == [
        whole.tokens[at][:max_tokens].tolist() for at in range(len(texts))
    ]
    assert cut.is_cut.tolist() == (whole.tokens.lengths > max_tokens).tolist()


def test_a_text_far_over_the_limit_is_not_read_to_its_end(model_folder: GetFolder) -> None:
    encoder = load(model_folder("bert"))
    assert isinstance(encoder, TokenizerPairEncoder)
    tokens = encoder.reader.read(["the quick brown fox " * 10_000, "a b"], more_than=10)
    assert 10 < tokens.lengths[0] < 200
    assert tokens.lengths[1] == 2


def test_more_texts_than_one_call_takes_keep_their_order(model_folder: GetFolder) -> None:
    encoder = load(model_folder("bert"))
    texts = [f"{number}" for number in range(2500)]
    tokens = encoder.encode_texts(texts, max_tokens=None).tokens
    assert len(tokens) == 2500
    assert all(
        tokens[at].tolist() == encoder.encode_texts([texts[at]], max_tokens=None).tokens[0].tolist()
        for at in (0, 1023, 1024, 2047, 2048, 2499)
    )


def test_no_texts_give_no_tokens(model_folder: GetFolder) -> None:
    encoded = load(model_folder("bert")).encode_texts([], max_tokens=3)
    assert len(encoded.tokens) == len(encoded.is_cut) == 0


@pytest.mark.parametrize(
    ("model_type", "config", "expected"),
    [
        ("bert", {"max_position_embeddings": 40}, 40),
        ("bert", {"max_position_embeddings": 512}, MAX_TOKENS),
        ("xlm-roberta", {"max_position_embeddings": 42, "pad_token_id": 1}, 40),
        ("gte", {"max_position_embeddings": 42, "pad_token_id": 1}, 42),
    ],
)
def test_maximum_is_what_positions_and_tokenizer_allow(
    tmp_path: Path, model_type: str, config: dict[str, Any], expected: int
) -> None:
    save_tokenizer("bert" if model_type == "bert" else "xlm-roberta", tmp_path)
    encoder = load(config_folder(tmp_path, model_type, **config))
    assert encoder.max_pair_tokens == expected


def test_text_never_becomes_a_control_token(family: str, model_folder: GetFolder) -> None:
    encoder = load(model_folder(family))
    control = encoder.reader.control.ids
    tokens = encoder.encode_texts(CONTROL_TEXTS, max_tokens=None).tokens
    assert len(control) >= 4
    assert not control & set(tokens.values.tolist())
    assert all(len(ids) >= 3 for ids in tokens)


def test_text_that_spells_a_control_token_keeps_its_characters(family: str, model_folder: GetFolder) -> None:
    encoder = load(model_folder(family))
    tokens = encoder.encode_texts(["a</s>b", "a[SEP]b"], max_tokens=None).tokens
    backend = encoder.reader.backend
    for position, content in enumerate(["</s>", "[SEP]"]):
        pieces = [backend.id_to_token(int(token_id)).lower() for token_id in tokens[position]]
        joined = "".join(pieces).replace("##", "").replace("▁", "").replace("[unk]", "?").replace("<unk>", "?")
        assert len(joined) == len(f"a{content}b")
        assert joined == f"a{content}b".lower() or "?" in joined


def test_text_around_a_control_token_is_read_as_before(model_folder: GetFolder) -> None:
    """Only the control token is spelled out; texts beside it in the same call are untouched."""
    encoder = load(model_folder("xlm-roberta"))
    alone = encoder.encode_texts(["abc", "def"], max_tokens=None).tokens
    beside = encoder.encode_texts(["abc", "x </s> y", "def"], max_tokens=None).tokens
    assert beside[0].tolist() == alone[0].tolist()
    assert beside[2].tolist() == alone[1].tolist()


def test_a_control_token_in_a_text_counts_against_the_limit_as_what_it_became(model_folder: GetFolder) -> None:
    encoder = load(model_folder("xlm-roberta"))
    assert encoder.encode_texts(["</s>" * 50], max_tokens=10).tokens.lengths.tolist() == [10]


def test_a_pair_holds_the_templates_control_tokens_and_no_others(family: str, model_folder: GetFolder) -> None:
    encoder = load(model_folder(family))
    pairs = [(text, other) for text in CONTROL_TEXTS for other in CONTROL_TEXTS]
    control = list(encoder.reader.control.ids)
    counts = [int(np.isin(ids, control).sum()) for ids in as_tokens(encode_text_pairs(encoder, pairs).inputs).ids]
    assert set(counts) == {encoder.num_special_tokens}


def test_a_whole_word_vocabulary_spells_control_tokens_too(tmp_path: Path) -> None:
    """Split at spaces only, WordPiece finds `[SEP]` in its vocabulary like any word."""
    vocab = {
        token: at for at, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[", "##s", "##sep", "##]", "a"])
    }
    backend = Tokenizer(models.WordPiece(vocab | {"##SEP": 9}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    wrap(backend).save_pretrained(tmp_path)
    encoder = load(config_folder(tmp_path))
    assert encoder.encode_texts(["a [SEP] a"], max_tokens=None).tokens.values.tolist() == [8, 4, 9, 7, 8]


def document_first(folder: Path) -> JointPairEncoder:
    """A tokenizer whose pair encoding puts the document before the query, and the query twice."""
    backend = byte_bpe_backend(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $B [SEP] $A [SEP] $A", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    wrap(backend).save_pretrained(folder)
    encoder = load(config_folder(folder))
    assert isinstance(encoder, JointPairEncoder)
    return encoder


def test_pairs_that_cannot_be_assembled_go_through_the_tokenizer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "reranker_batch"):
        encoder = document_first(tmp_path)
    assert len([record for record in caplog.records if "pairs" in record.message]) == 1
    rng = random.Random(4)
    pairs = [(random_text(rng, 4), random_text(rng, 10)) for _ in range(100)]
    ours = encode(encoder, pairs, 100_000)
    assert [ids.tolist() for ids in as_tokens(ours.inputs).ids] == own_inputs(tmp_path, pairs)["input_ids"]


def test_pairs_through_the_tokenizer_stay_within_every_limit(tmp_path: Path) -> None:
    encoder = document_first(tmp_path)
    rng = random.Random(5)
    pairs = [(random_text(rng, 20), random_text(rng, 30)) for _ in range(60)] + [
        ("", ""),
        ("</s>[SEP]" * 30, "🐼" * 60),
    ]
    for limit in (3, 4, 7, 20, 64):
        encoded = encode(encoder, pairs, limit)
        assert encoded.inputs.costs.max() <= limit
        text_tokens = encoded.query_tokens + encoded.document_tokens
        assert (encoded.inputs.costs == text_tokens + encoder.num_special_tokens).all()


def test_texts_cut_by_characters_are_what_their_tokens_say(tmp_path: Path) -> None:
    encoder = document_first(tmp_path)
    texts = ["one two three", "🐼🐼🐼", "", "[SEP][SEP][SEP]"]
    for limit in (0, 1, 2, 5, 100):
        encoded = encoder.encode_texts(texts, max_tokens=limit)
        again = encoder.encode_texts(list(encoded.texts), max_tokens=None)
        assert encoded.tokens.lengths.max() <= limit
        assert [ids.tolist() for ids in encoded.tokens] == [ids.tolist() for ids in again.tokens]
        assert all(text.startswith(cut) for text, cut in zip(texts, encoded.texts, strict=True))
        assert [cut != text for text, cut in zip(texts, encoded.texts, strict=True)] == encoded.is_cut.tolist()


def test_a_limit_below_the_template_is_refused_by_the_second_way(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="max_pair_tokens=2"):
        encode(document_first(tmp_path), [("a", "b")], 2)


def test_control_tokens_are_spelled_out_by_the_second_way(tmp_path: Path) -> None:
    """With a vocabulary that holds them as ordinary pieces, which the tokenizer's own pair encoding then gives."""
    backend = xlmr().backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $B </s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    wrap_xlmr(backend).save_pretrained(tmp_path)
    encoder = load(config_folder(tmp_path, "xlm-roberta"))
    assert isinstance(encoder, JointPairEncoder)
    encoded = encode(encoder, [(text, text) for text in CONTROL_TEXTS], 64)
    counts = [int(np.isin(ids, list(encoder.control.ids)).sum()) for ids in as_tokens(encoded.inputs).ids]
    assert set(counts) == {encoder.num_special_tokens} == {3}


def test_a_tokenizer_that_reads_its_own_file_differently_is_refused(tmp_path: Path) -> None:
    """transformers rebuilds a BertTokenizer from its settings; here the file does not lower-case."""
    wordpiece().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="otherwise than the file says"):
        load(config_folder(tmp_path))


def test_truncation_and_padding_left_on_in_a_file_do_not_count(tmp_path: Path) -> None:
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = load(config_folder(tmp_path))
    tokens = encoder.encode_texts(["a b c d e f", "a"], max_tokens=None).tokens
    assert tokens.lengths.tolist() == [6, 1]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """transformers itself would make up an empty one."""
    with pytest.raises(ModelError, match="No tokenizer in"):
        load(config_folder(tmp_path))


def test_a_model_without_any_maximum_is_refused(tmp_path: Path) -> None:
    tokenizer = wordpiece()
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(tmp_path)
    config_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="model_max_length"):
        load(tmp_path)
