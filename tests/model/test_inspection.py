"""What `recipes --check` shows of a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from tiny_causal import qwen, save_causal

from reranker_batch.model.checks.golden import GOLDEN, RED_PLANET, find_golden
from reranker_batch.model.checks.inspection import inspect_model
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
