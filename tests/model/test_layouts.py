"""What a folder says of pairs, maxima and texts is done, or the folder is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from tiny_models import MAX_TOKENS, byte_bpe_backend, save_model, wordpiece, wrap

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import TokenizerPairEncoder, load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import CROSS_ENCODER

Change = Callable[[dict[str, Any]], None]
PAIRS = [("ab", "a bear " * 30), ("WHERE Is It", "IN China"), ("abc", "déjà vu")]
TRANSFORMER = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    wordpiece().save_pretrained(folder)
    config = {"model_type": "bert", "max_position_embeddings": MAX_TOKENS}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def bert(made: Path, tmp_path: Path) -> Path:
    """Tokenizer and settings of a BERT, without weights."""
    return Path(shutil.copytree(made, tmp_path / "model"))


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def load(folder: Path) -> TokenizerPairEncoder:
    encoder = load_pair_encoder(folder, recipe=CROSS_ENCODER)
    assert isinstance(encoder, TokenizerPairEncoder)
    return encoder


def post_processor(*, second_type: int = 1, middle: int = 1) -> dict[str, Any]:
    def special(name: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    single = [special("[CLS]", 0), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]", 0)]
    second = [{"Sequence": {"id": "B", "type_id": second_type}}, special("[SEP]", second_type)]
    pair = [*single[:2], *([special("[SEP]", 0)] * middle), *second]
    tokens = {name: {"id": name, "ids": [at], "tokens": [name]} for name, at in (("[CLS]", 2), ("[SEP]", 3))}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def test_pairs_joined_as_the_file_says_are_accepted(bert: Path) -> None:
    change(bert, "tokenizer.json", post_processor=post_processor())
    assert load(bert).num_special_tokens == 3


@pytest.mark.parametrize(("wrong", "what"), [({"middle": 2}, "the ids"), ({"second_type": 0}, "the token types")])
def test_pairs_that_transformers_joins_otherwise_than_the_file_are_refused(
    bert: Path, wrong: dict[str, int], what: str
) -> None:
    """transformers puts the template of BertTokenizer in place of the file's."""
    change(bert, "tokenizer.json", post_processor=post_processor(**wrong))
    with pytest.raises(
        ModelError, match=rf"joins a pair otherwise than .*tokenizer\.json says.*give {what}.*by the file"
    ):
        load(bert)
    change(bert, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert load(bert).num_special_tokens == 2 + wrong.get("middle", 1)


@pytest.mark.parametrize("model_type", ["distilbert", "roberta"])
def test_token_types_that_a_model_does_not_read_are_no_reason_to_refuse(bert: Path, model_type: str) -> None:
    change(bert, "tokenizer.json", post_processor=post_processor(second_type=0))
    change(bert, "config.json", model_type=model_type, type_vocab_size=1 if model_type == "roberta" else None)
    change(bert, "tokenizer_config.json", tokenizer_class="BertTokenizer", model_input_names=["input_ids"])
    load(bert)


def test_more_token_types_than_the_model_has_are_refused(bert: Path) -> None:
    change(bert, "config.json", type_vocab_size=1)
    with pytest.raises(ModelError, match=r"token types 0 to 1, and the model has 1 \(type_vocab_size"):
        load(bert)
    change(bert, "config.json", type_vocab_size=2)
    assert load(bert).has_token_types


@pytest.mark.parametrize("is_between", [False, True])
def test_a_tokenizer_that_puts_nothing_between_two_texts_is_refused(tmp_path: Path, is_between: bool) -> None:
    backend = byte_bpe_backend(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    if is_between:
        processor = post_processor() | {"special_tokens": {}}
        for name, at in (("[CLS]", 1), ("[SEP]", 2)):
            processor["special_tokens"][name] = {"id": name, "ids": [at], "tokens": [name]}
        content = json.loads(backend.to_str()) | {"post_processor": processor}
        backend = type(backend).from_str(json.dumps(content))
    wrap(backend).save_pretrained(tmp_path)
    config = {"model_type": "modernbert", "max_position_embeddings": MAX_TOKENS}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if is_between:
        load(tmp_path)
        return
    with pytest.raises(ModelError, match="joins two texts with nothing between them"):
        load(tmp_path)


def test_texts_that_are_cut_at_their_beginning_are_refused(bert: Path) -> None:
    change(bert, "tokenizer_config.json", truncation_side="left")
    with pytest.raises(ModelError, match="truncation_side='left'"):
        load(bert)
    change(bert, "tokenizer_config.json", truncation_side="right")
    load(bert)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_in_the_form_of_sentencepiece_alone_names_its_package(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    (bert / "tokenizer_config.json").write_text("{}")
    config = {"model_type": "xlm-roberta", "max_position_embeddings": MAX_TOKENS}
    (bert / "config.json").write_text(json.dumps(config))
    (bert / "sentencepiece.bpe.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>")
    with pytest.raises(
        ModelError, match=r"package sentencepiece, which is not installed\. A folder with tokenizer\.json"
    ):
        load(bert)


def in_modules(folder: Path, name: str = "sentence_bert_config.json", **settings: Any) -> None:
    (folder / "modules.json").write_text(json.dumps(TRANSFORMER))
    (folder / name).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_seq_length": 20}, 20),
        ({"max_seq_length": 500}, MAX_TOKENS),
        ({"max_seq_length": None}, MAX_TOKENS),
        ({"max_seq_length": 30, "processing_kwargs": {"text": {"max_length": 25}}}, 25),
        ({"processing_kwargs": {"text": {"max_length": 35, "truncation": True}}}, 35),
        ({"processor_kwargs": {"model_max_length": 22}}, 22),
        ({"tokenizer_args": {"model_max_length": 23}}, 23),
    ],
)
@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_xlm-roberta_config.json"])
def test_the_smaller_maximum_of_sentence_transformers_settings_wins(
    bert: Path, settings: dict[str, Any], expected: int, name: str
) -> None:
    in_modules(bert, name, **settings)
    assert load(bert).max_pair_tokens == expected
    (bert / "modules.json").unlink()
    assert load(bert).max_pair_tokens == MAX_TOKENS


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "add_special_tokens"),
        ({"processing_kwargs": {"common": {"stride": 4}}}, "stride"),
        ({"processing_kwargs": {"words": {"x": 1}}}, "processing_kwargs.words"),
        ({"processor_kwargs": {"truncation_side": "left"}}, "truncation_side"),
        ({"tokenizer_name_or_path": "other/model"}, "tokenizer_name_or_path"),
        ({"config_kwargs": {"hidden_act": "relu"}}, r"config_kwargs\.hidden_act"),
        ({"reverse_texts": True}, "reverse_texts"),
    ],
)
def test_settings_that_are_not_applied_are_refused_by_name(bert: Path, settings: dict[str, Any], named: str) -> None:
    in_modules(bert, **settings)
    with pytest.raises(ModelError, match=rf"sentence_bert_config\.json sets {named} to"):
        load(bert)


@pytest.mark.parametrize(
    "settings",
    [
        {"transformer_task": "sequence-classification", "modality_config": {"text": {}}, "do_lower_case": False},
        {"processing_kwargs": {"text": {"padding": True, "truncation": "longest_first"}, "image": {"size": 3}}},
        {"model_kwargs": {"attn_implementation": "flash_attention_2"}, "processor_kwargs": {"padding_side": "left"}},
        {"query_length": None, "query_expansion": None, "tokenizer_name_or_path": None},
    ],
    ids=str,
)
def test_settings_that_change_no_input_are_accepted(bert: Path, settings: dict[str, Any]) -> None:
    in_modules(bert, **settings)
    load(bert)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_seq_length": "many"},
        {"max_seq_length": 0},
        {"processing_kwargs": [1]},
        {"processing_kwargs": {"text": "x"}},
        {"modality_config": 3},
        {"processing_kwargs": {"chat_template": {"chat_template": 3}}},
    ],
    ids=str,
)
def test_settings_of_other_types_are_refused_by_name(bert: Path, settings: dict[str, Any]) -> None:
    in_modules(bert, **settings)
    with pytest.raises(ModelError, match=r"sentence_bert_config\.json has"):
        load(bert)


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True}, {"max_seq_length": 24}], ids=str)
def test_logits_of_the_module_layout_equal_sentence_transformers(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = save_model("modernbert", tmp_path)
    modality = {"text": {"method": "forward", "method_output_name": "logits"}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder"}))
    in_modules(
        folder,
        transformer_task="sequence-classification",
        modality_config=modality,
        module_output_name="scores",
        **settings,
    )
    with quiet_loading():
        peer = CrossEncoder(str(folder), device="cpu")
    theirs = peer.predict(PAIRS, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    ours = score_pairs(start_scorer(folder, recipe=CROSS_ENCODER), load(folder), PAIRS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    if settings:
        (folder / "modules.json").unlink()
        assert abs(score_pairs(start_scorer(folder, recipe=CROSS_ENCODER), load(folder), PAIRS) - theirs).max() > 1e-3


def test_lower_case_is_that_of_sentence_transformers_where_it_takes_the_weights_alone(tmp_path: Path) -> None:
    """It reads modules of a CrossEncoder, and of a model of another kind, which is what no model_type means, none."""
    folder = save_model("modernbert", tmp_path)
    in_modules(folder, do_lower_case=True)
    with quiet_loading():
        peer = CrossEncoder(str(folder), device="cpu")
    theirs = peer.predict(PAIRS, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    ours = score_pairs(start_scorer(folder, recipe=CROSS_ENCODER), load(folder), PAIRS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_lower_case_changes_nothing_for_a_tokenizer_that_does_it_already(bert: Path) -> None:
    before = as_tokens(encode_text_pairs(load(bert), PAIRS).inputs).ids.values
    (bert / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder"}))
    in_modules(bert, do_lower_case=True)
    assert as_tokens(encode_text_pairs(load(bert), PAIRS).inputs).ids.values.tolist() == before.tolist()


FLOODS: dict[str, Change] = {
    "one long text": lambda content: content.update(
        normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "b " * 300_000}
    ),
    "a prefix": lambda content: content.update(normalizer={"type": "Prepend", "prepend": "b " * 300_000}),
    "doubled again and again": lambda content: content.update(
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 60,
        }
    ),
    "a pattern that does not end": lambda content: content.update(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": r"(a+)+\d"},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "many special tokens": lambda content: content.update(
        post_processor=post_processor()
        | {
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2] * 300_000, "tokens": ["[CLS]"] * 300_000},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            }
        }
    ),
    "merges at random": lambda content: content.update(
        model={"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}
    ),
    "deep": lambda content: content.update(
        normalizer=json.loads('{"type":"Sequence","normalizers":[' * 90 + "]}" * 90)
    ),
    "no tokenizer": lambda content: content.clear(),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_tokenizer_that_floods_or_does_not_end_is_refused_by_name(bert: Path, name: str) -> None:
    path = bert / "tokenizer.json"
    content = json.loads(path.read_text())
    FLOODS[name](content)
    path.write_text(json.dumps(content))
    change(bert, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load(bert)


def test_a_tokenizer_with_patterns_of_its_own_that_end_is_accepted(bert: Path) -> None:
    path = bert / "tokenizer.json"
    content = json.loads(path.read_text())
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    content["normalizer"] = {"type": "Sequence", "normalizers": [spaces, content["normalizer"]]}
    words = {"type": "Split", "pattern": {"Regex": r"(?:\p{L}+|\s+)*"}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [words, content["pre_tokenizer"]]}
    path.write_text(json.dumps(content))
    change(bert, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    load(bert)
