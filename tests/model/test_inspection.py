"""What `recipes --check` shows of a model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_causal import qwen, save_causal

from reranker_batch.errors import ModelError
from reranker_batch.model.checks.golden import GOLDEN, RED_PLANET, find_golden
from reranker_batch.model.checks.inspection import explain_model, inspect_model
from reranker_batch.model.source.files import resolve_model


def test_a_generative_model_is_shown_with_prompt_ids_and_answers(tmp_path: Path) -> None:
    folder = save_causal("qwen3-reranker", tmp_path / "qwen3-reranker")
    inspection = inspect_model(resolve_model(str(folder)), recipe="qwen3-reranker", instruct="semantic_similarity")
    rows = dict(inspection.rows)
    assert inspection.agrees
    assert rows["recipe"].startswith("qwen3-reranker")
    assert rows["instruction"] == "Retrieve semantically similar text."
    assert "<Query>: {query}" in rows["template"]
    assert (
        rows["logit"]
        == f"of yes ({qwen().convert_tokens_to_ids('yes')}) minus no ({qwen().convert_tokens_to_ids('no')})"
    )
    ids = [int(item) for item in rows["ids of a pair"].split()]
    shown = str(qwen().decode(ids))
    assert shown.endswith("<Document>: A bear.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert len([name for name, _ in inspection.rows if name == "canary pair"]) >= 5


def test_a_model_with_a_published_name_is_held_against_the_published_values(tmp_path: Path) -> None:
    mini = resolve_model("builtin:mini").folder
    folder = shutil.copytree(mini, tmp_path / "ms-marco-MiniLM-L6-v2")
    inspection = inspect_model(resolve_model(str(folder)))
    assert not inspection.agrees
    assert dict(inspection.rows)["published values"].startswith("DO NOT AGREE")
    plain = inspect_model(resolve_model("builtin:mini"))
    assert plain.agrees
    assert dict(plain.rows)["template"].startswith("[CLS] what is a panda ? [SEP]")


def test_published_values_are_found_by_the_last_part_of_a_name() -> None:
    golden = find_golden("BAAI/bge-reranker-base")
    assert golden is GOLDEN["bge-reranker-base"] is find_golden("/models/BGE-reranker-base/")
    assert find_golden("BAAI/bge-reranker-base-tuned") is None
    logits = np.log(np.array(golden.values) / (1 - np.array(golden.values))).astype(np.float32)
    assert golden.differences(logits).max() < 1e-5
    assert golden.differences(logits + 1).max() > golden.tolerance
    assert {len(item.values) for item in GOLDEN.values()} == {len(RED_PLANET)}


def test_a_model_that_is_served_is_explained_with_its_files_and_how_it_is_run(tmp_path: Path) -> None:
    folder = shutil.copytree(resolve_model("builtin:mini").folder, tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    explained = explain_model(str(folder))
    rows = dict(explained.rows)
    assert explained.refusal is None
    assert rows["what it is"] == "model with labels: BertForSequenceClassification, model_type 'bert'"
    assert rows["labels"] == "0 (LABEL_0)"
    assert rows["weights"] == "model.safetensors (15.2 MB), pytorch_model.bin (pickle, 0.0 MB)"
    assert rows["tokenizer"] == "tokenizer.json"
    assert (rows["served"], rows["run"][:6]) == ("yes", "packed")


def test_an_embedding_model_is_explained_by_its_modules(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    types = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"path": f"{at}_{name}" if at else "", "type": f"sentence_transformers.models.{name}"}
        for at, name in enumerate(types)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    explained = explain_model(str(tmp_path))
    assert dict(explained.rows)["modules"] == "Transformer, Pooling, Normalize"
    assert "encoder without a head" in dict(explained.rows)["what it is"]
    assert explained.refusal is not None
    assert "embedding model" in str(explained.refusal)


def test_a_folder_that_is_not_there_is_no_model_to_explain(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        explain_model(str(tmp_path / "nowhere"))
    explained = explain_model(str(tmp_path))
    assert explained.rows[0] == ("what it is", "no model of transformers: config.json cannot be read, or is missing")
    assert "no config.json" in str(explained.refusal)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("tokenizer_config.json", {"model_max_length": 5}, "the model reads 5 tokens of a pair. 3 of them are special"),
        ("config.json", {"layer_norm_eps": "1e-12"}, "config.json is not accepted by transformers: .*layer_norm_eps"),
    ],
)
def test_settings_that_no_model_works_with_are_told_by_their_file(
    tmp_path: Path, file: str, change: dict[str, object], message: str
) -> None:
    folder = shutil.copytree(resolve_model("builtin:mini").folder, tmp_path / "model")
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(settings | change))
    refusal = explain_model(str(folder)).refusal
    assert refusal is not None
    assert re.search(message, str(refusal), re.DOTALL)
