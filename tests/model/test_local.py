"""A model in files behind the seam that a job sees."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from reranker_batch.config import ModelConfig
from reranker_batch.core.backend import ScoringBackend, Where
from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.local import LocalModel
from reranker_batch.uris import BUILTIN_FOLDER

PAIRS = [("what is a panda?", "A bear."), ("what is a panda?", "A city in France.")]


def test_a_backend_travels_light_and_gives_the_same_logits_where_it_arrives() -> None:
    sent: ScoringBackend = LocalModel.open(ModelConfig(name="builtin:mini"))
    content = pickle.dumps(sent)
    assert len(content) < 10_000
    arrived: ScoringBackend = pickle.loads(content)
    assert arrived == sent
    where = Where("cpu")
    logits = []
    for backend in (sent, arrived):
        inputs = encode_text_pairs(backend.load_encoder(), PAIRS).inputs
        logits.append(backend.load_scorer(where).score(inputs).logits)
    np.testing.assert_array_equal(logits[0], logits[1])
    assert sent.load_exact_scorer(where) is None


def test_a_model_that_moved_is_the_same_and_says_where_it_is(tmp_path: Path) -> None:
    shutil.copytree(BUILTIN_FOLDER / "mini", tmp_path / "moved")
    there, here = (LocalModel.open(ModelConfig(name=name)) for name in ("builtin:mini", str(tmp_path / "moved")))
    assert there.identity("cpu") == here.identity("cpu")
    assert (there.description.name, here.description.name) == ("builtin:mini", str(tmp_path / "moved"))


def test_half_precision_is_another_model_with_an_exact_second() -> None:
    model = LocalModel.open(ModelConfig(name="builtin:mini", dtype="bfloat16"))
    assert model.identity("cpu") == model.identity("cuda")
    where = Where("cpu", max_pair_tokens=64)
    exact = model.load_exact_scorer(where)
    assert exact is not None
    inputs = encode_text_pairs(model.load_encoder(), PAIRS).inputs
    rough = model.load_scorer(where).score(inputs).logits
    difference = np.abs(rough - exact.score(inputs).logits).max()
    assert 0 < difference < 0.5


@pytest.mark.parametrize("is_planned", [True, False])
def test_only_a_model_that_a_run_was_planned_with_is_held_to_its_files(tmp_path: Path, is_planned: bool) -> None:
    shutil.copytree(BUILTIN_FOLDER / "mini", tmp_path / "model")
    model = LocalModel.open(ModelConfig(name=str(tmp_path / "model")), hashed=is_planned)
    (tmp_path / "model" / "vocab.txt").write_text("new")
    if is_planned:
        with pytest.raises(ModelError, match="new: vocab.txt"):
            model.load_scorer(Where("cpu"))
    else:
        model.load_scorer(Where("cpu"))
