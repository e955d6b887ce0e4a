"""A model that would give scores without meaning is refused when it is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import save_model

from reranker_batch.errors import ModelError, PairTooLongError
from reranker_batch.model.checks.start import check_canaries, encode_text_pairs, score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.recipes import CROSS_ENCODER, choose_recipe
from reranker_batch.model.scorer import ModelScorer, load_scorer
from reranker_batch.model.source.files import read_config, resolve_model

GetFolder = Callable[[str], Path]


def start(folder: Path, **kwargs: Any) -> ModelScorer[Any]:
    return start_scorer(folder, recipe=CROSS_ENCODER, **kwargs)


@pytest.fixture
def bert(model_folder: GetFolder, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may damage."""
    return Path(shutil.copytree(model_folder("bert"), tmp_path / "bert"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    weights = {key: value.clone() for key, value in load_file(path).items()}
    save_file(change(weights), path, metadata={"format": "pt"})


def test_a_missing_head_is_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: {k: v for k, v in weights.items() if not k.startswith("classifier")})
    with pytest.raises(ModelError, match=r"head of the model.*classifier\.bias.*random"):
        start(bert)


def test_missing_weights_of_a_layer_are_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: {k: v for k, v in weights.items() if "layer.1.output" not in k})
    with pytest.raises(ModelError, match="Weights are missing"):
        start(bert)


def test_weights_of_another_size_are_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: weights | {"classifier.weight": torch.zeros(1, 99)})
    with pytest.raises(ModelError, match=r"classifier\.weight in .* has the shape \(1, 99\)"):
        start(bert)


def test_several_labels_are_refused(tmp_path: Path) -> None:
    folder = save_model("bert", tmp_path, num_labels=2)
    with pytest.raises(ModelError, match="2 labels"):
        start(folder)


def test_a_head_of_zeros_is_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: weights | {k: torch.zeros_like(v) for k, v in weights.items() if "class" in k})
    with pytest.raises(ModelError, match=r"same score.*relevance 0\.5"):
        start(bert)


def test_a_head_so_small_that_all_scores_are_a_half_is_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: weights | {k: v * 1e-5 for k, v in weights.items() if "class" in k})
    with pytest.raises(ModelError, match=r"same score, 0\.5"):
        start(bert)


def test_scores_that_are_all_one_are_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: weights | {"classifier.bias": torch.full((1,), 500.0)})
    with pytest.raises(ModelError, match="relevance 1, 1"):
        start(bert)


def test_logits_that_are_not_finite_are_refused(bert: Path) -> None:
    change_weights(bert, lambda weights: weights | {"classifier.bias": torch.full((1,), float("nan"))})
    with pytest.raises(ModelError, match="not finite"):
        start(bert)


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(bert: Path) -> None:
    rows = read_config(bert)["vocab_size"] - 5
    key = "bert.embeddings.word_embeddings.weight"
    change_weights(bert, lambda weights: weights | {key: weights[key][:rows].clone()})
    (bert / "config.json").write_text(json.dumps(read_config(bert) | {"vocab_size": rows}))
    with pytest.raises(ModelError, match="do not belong together"):
        start(bert)


def write_expected(folder: Path, shift: float) -> None:
    pairs = [("what is a panda?", "a bear"), ("abc", ""), ("мир", "планета " * 10)]
    recipe = CROSS_ENCODER
    encoder = load_pair_encoder(folder, recipe=recipe)
    logits = score_pairs(load_scorer(folder, encoder, recipe=recipe), encoder, pairs)
    stored = [
        {"query": query, "document": document, "logit": float(logit) + shift}
        for (query, document), logit in zip(pairs, logits, strict=True)
    ]
    (folder / "expected_logits.json").write_text(json.dumps({"pairs": stored}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stored_logits_that_come_out_again_are_accepted(bert: Path, dtype: str) -> None:
    write_expected(bert, 5e-4)
    start(bert, dtype=dtype)


@pytest.mark.parametrize(("dtype", "shift"), [("float32", 0.002), ("bfloat16", 2.0)])
def test_stored_logits_that_do_not_come_out_again_are_refused(bert: Path, dtype: str, shift: float) -> None:
    write_expected(bert, shift)
    with pytest.raises(ModelError, match=r"expected_logits\.json"):
        start(bert, dtype=dtype)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int4"}, "Known: auto, float32"),
        ({"device": "tpu"}, "Known: auto, cpu, cuda"),
        ({"device": "cuda:99"}, "not on this machine"),
    ],
)
def test_settings_that_do_not_exist_are_refused(bert: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        start(bert, **settings)


def test_a_family_that_transformers_does_not_know_is_refused_with_the_version(bert: Path) -> None:
    (bert / "config.json").write_text(json.dumps(read_config(bert) | {"model_type": "bert-of-tomorrow"}))
    with pytest.raises(ModelError, match=rf"transformers {transformers.__version__}"):
        start(bert)


def test_a_config_that_asks_for_kernels_of_another_machine_is_served(bert: Path) -> None:
    (bert / "config.json").write_text(
        json.dumps(read_config(bert) | {"_attn_implementation": "flash_attention_2", "dtype": "float16"})
    )
    assert start(bert, device="cpu").dtype == torch.float32


def test_canaries_longer_than_the_jobs_budget_do_not_stop_a_model(bert: Path) -> None:
    scorer = start_scorer(bert, recipe=CROSS_ENCODER, max_batch_tokens=8)
    encoder = load_pair_encoder(bert, recipe=CROSS_ENCODER)
    encoded = encode_text_pairs(encoder, [("a b c d", "e f g h")])
    with pytest.raises(PairTooLongError):
        scorer.score(encoded.inputs)


def test_loading_says_nothing_and_leaves_the_switches_of_transformers_alone(bert: Path) -> None:
    """In a process of its own, where nothing has set a switch before."""
    code = (
        "import logging, sys, transformers\n"
        "from pathlib import Path\n"
        "from reranker_batch.model.checks.start import start_scorer\n"
        "from reranker_batch.model.recipes import CROSS_ENCODER\n"
        "start_scorer(Path(sys.argv[1]), recipe=CROSS_ENCODER)\n"
        "from transformers.utils import logging as switches\n"
        "assert switches.is_progress_bar_enabled()\n"
        "assert logging.getLogger('transformers').level == logging.WARNING\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bert)], env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_model_that_comes_with_the_package_starts_and_ranks() -> None:
    files = resolve_model("builtin:mini")
    recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
    scorer = start_scorer(files.folder, recipe=recipe)
    encoder = load_pair_encoder(files.folder, recipe=recipe)
    check_canaries(scorer, encoder, recipe=recipe)
    query = "python function that sorts a list"
    logits = score_pairs(
        scorer, encoder, [(query, "sorted() returns a new sorted list."), (query, "A driver for USB scanners.")]
    )
    assert np.isfinite(logits).all()
    assert logits[0] > logits[1]
