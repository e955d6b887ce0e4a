"""Weights that are not those of the model that would be run, and sizes that they do not have."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_model

from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.recipes import CROSS_ENCODER
from reranker_batch.model.source.loading import load_model

GetFolder = Callable[[str], Path]
PAIRS = [("what is a panda", "a bear"), ("abc", "d")]


@pytest.fixture
def bert(model_folder: GetFolder, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may damage."""
    return Path(shutil.copytree(model_folder("bert"), tmp_path / "bert"))


def load(folder: Path) -> torch.nn.Module:
    return load_model(
        folder, recipe=CROSS_ENCODER, dtype=torch.float32, device=torch.device("cpu"), trust_remote_code=False
    )


def add_weights(folder: Path, *names: str) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {name: torch.zeros(2) for name in names}, path, metadata={"format": "pt"})


def configure(folder: Path, **values: object) -> None:
    (folder / "config.json").write_text(json.dumps(read_config(folder) | values))


@pytest.mark.parametrize(
    "name",
    [
        "stray.weight",
        "bert.encoder.layer.0.attention.self.distance_embedding.weight",
        "bert.encoder.layer.3.output.dense.weight",
        "bert.encoder.layer.0.attention.self.query.lora_A.weight",
        "score.weight",
        "bert.encoder.layer.1.adapter.dense.weight",
    ],
)
def test_weights_that_the_class_does_not_use_are_refused(bert: Path, name: str) -> None:
    add_weights(bert, name)
    with pytest.raises(ModelError, match=f"not used by BertForSequenceClassification .*{name}"):
        load(bert)


def test_weights_without_effect_on_a_score_are_told_and_accepted(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_weights(
        bert,
        "bert.embeddings.position_ids",
        "bert.embeddings.token_type_ids",
        "cls.predictions.bias",
        "cls.seq_relationship.weight",
        "lm_head.decoder.bias",
        "roberta.pooler.dense.bias",
        "bert.rotary_emb.inv_freq",
    )
    with caplog.at_level(logging.INFO):
        load(bert)
    assert "cls.predictions.bias" in caplog.text
    assert all(record.name.startswith("reranker_batch") for record in caplog.records)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_hidden_layers": 4}, "num_hidden_layers: 4, and the weights have layers 0 to 2"),
        ({"num_hidden_layers": 1000}, "num_hidden_layers: 1000"),
        ({"hidden_size": 1 << 20}, "hidden_size: 1048576, and the weights have no side longer than"),
        ({"vocab_size": 1 << 23}, "vocab_size: 8388608"),
        ({"intermediate_size": 1 << 24}, "intermediate_size: 16777216"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_a_model_is_built(
    bert: Path, values: dict[str, int], said: str
) -> None:
    configure(bert, **values)
    with pytest.raises(ModelError, match=f"config.json says {said}"):
        load(bert)


def test_many_more_parameters_than_the_weights_have_are_refused_before_a_model_is_built(bert: Path) -> None:
    configure(bert, max_position_embeddings=1 << 24)
    with pytest.raises(ModelError, match=r"^\S*config\.json asks for a model of \d{3},\d{3},\d{3} parameters"):
        load(bert)


@pytest.mark.parametrize("values", [{"return_dict": False}, {"chunk_size_feed_forward": 7}], ids=str)
def test_settings_of_how_a_result_is_computed_change_no_logit(bert: Path, values: dict[str, object]) -> None:
    encoder = load_pair_encoder(bert, recipe=CROSS_ENCODER)
    before = score_pairs(start_scorer(bert, recipe=CROSS_ENCODER), encoder, PAIRS)
    configure(bert, **values)
    np.testing.assert_array_equal(score_pairs(start_scorer(bert, recipe=CROSS_ENCODER), encoder, PAIRS), before)


@pytest.fixture
def sharded(bert: Path) -> Path:
    weights = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    names = sorted(weights)
    places: dict[str, str] = {}
    for at, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{at}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, bert / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    (bert / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return bert


def test_weights_in_several_files_are_read(sharded: Path) -> None:
    load(sharded)


@pytest.mark.parametrize("index", [{}, {"weight_map": 3}, {"weight_map": {"a": 3}}], ids=str)
def test_an_index_without_files_is_refused_by_name(sharded: Path, index: object) -> None:
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"index\.json has no weight_map"):
        load(sharded)


@pytest.mark.parametrize("place", ["model-00003-of-00002.safetensors", "../bert/model.safetensors", "/etc/passwd"])
def test_an_index_that_names_other_files_is_refused_by_name(sharded: Path, place: str) -> None:
    index = {"weight_map": {"classifier.weight": place}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=rf"index\.json names the file '{place}'"):
        load(sharded)


def test_a_missing_index_is_named(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors\.index\.json"):
        load(sharded)


HEADERS = {
    "a header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "no header": b"abc",
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "claims that no file holds": (lambda text: len(text).to_bytes(8, "little") + text)(
        json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    ),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_a_damaged_weight_file_is_named(bert: Path, content: bytes) -> None:
    (bert / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is not a whole safetensors file"):
        load(bert)


@pytest.mark.parametrize(
    "content", [{}, {"pairs": 3}, {"pairs": []}, {"pairs": [{"query": "a", "document": "b", "logit": "c"}]}], ids=str
)
def test_stored_logits_that_are_none_are_refused_by_name(bert: Path, content: object) -> None:
    (bert / "expected_logits.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"expected_logits\.json has no list of pairs"):
        start_scorer(bert, recipe=CROSS_ENCODER)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_weights_that_were_quantized_are_refused_where_no_setting_says_so(bert: Path, dtype: torch.dtype) -> None:
    path = bert / "model.safetensors"
    weights = load_file(path)
    name = "bert.encoder.layer.1.output.dense.weight"
    save_file(weights | {name: weights[name].to(dtype)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"weights of the type [IF]8\S* \({name}\), so it was quantized"):
        load(bert)
    save_file(weights | {name: weights[name].to(torch.bfloat16)}, path, metadata={"format": "pt"})
    load(bert)


def test_a_weight_of_another_shape_is_named_with_both(bert: Path) -> None:
    configure(bert, type_vocab_size=3)
    with pytest.raises(ModelError, match=r"token_type_embeddings\.weight in .* has the shape \(2, 32\), .* \(3, 32\)"):
        load(bert)


@pytest.mark.parametrize("names", [("classifier.", "score."), ("bert.", "module.bert.")], ids=str)
def test_weights_under_other_names_are_not_told_to_be_those_of_a_base_model(bert: Path, names: tuple[str, str]) -> None:
    path = bert / "model.safetensors"
    weights = {name.replace(*names): weight for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"Weights are missing .*does not use .*{names[1]}.*save_pretrained"):
        load(bert)


def test_weights_of_more_layers_than_the_config_says_are_refused(tmp_path: Path) -> None:
    folder = save_model("bert", tmp_path)
    configure(folder, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"not used by .*layer\.2"):
        load(folder)
