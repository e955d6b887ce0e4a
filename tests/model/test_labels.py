"""A head with two labels is scored by the one that `model.positive_label` names, less the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_models import save_model

from reranker_batch import JobConfig, Reranker
from reranker_batch.cli import run_command
from reranker_batch.core.pairs import FloatArray, encode_text_pairs
from reranker_batch.errors import ConfigError, ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Recipe, choose_recipe

Pairs = list[tuple[str, str]]
NAMED: dict[str, Any] = {"id2label": {0: "irrelevant", 1: "relevant"}, "label2id": {"irrelevant": 0, "relevant": 1}}


def recipe_of(folder: Path, positive: int | str | None) -> Recipe:
    return choose_recipe(folder, read_config(folder), model=str(folder), positive=positive).recipe


def both_logits(folder: Path, pairs: Pairs) -> FloatArray:
    """Of plain transformers, one pair at a time, for pairs that fit."""
    with quiet_loading():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [model(**tokenizer([query], [document], return_tensors="pt")).logits[0] for query, document in pairs]
    return torch.stack(rows).numpy()


@pytest.fixture(scope="module", params=["bert", "distilbert", "roberta", "deberta-v2", "modernbert"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet_loading():
        return save_model(request.param, tmp_path_factory.mktemp("two"), num_labels=2, **NAMED)


@pytest.mark.parametrize(("positive", "sign"), [(1, 1), ("relevant", 1), (0, -1), ("irrelevant", -1)])
def test_the_logit_is_the_positive_label_less_the_other(
    folder: Path, positive: int | str, sign: int, pairs: Pairs
) -> None:
    recipe = recipe_of(folder, positive)
    encoder, scorer = load_pair_encoder(folder, recipe=recipe), start_scorer(folder, recipe=recipe)
    fitting = [pair for pair in pairs if all(len(text) < 40 for text in pair)]
    theirs = both_logits(folder, fitting)
    ours = score_pairs(scorer, encoder, fitting)
    np.testing.assert_allclose(ours, sign * (theirs[:, 1] - theirs[:, 0]), rtol=0, atol=1e-5)
    shares = torch.tensor(theirs).double().softmax(-1)[:, 1 if sign == 1 else 0]
    np.testing.assert_allclose(recipe.activation.scores(ours), shares, rtol=0, atol=1e-5)
    is_packed = read_config(folder)["model_type"] != "deberta-v2"
    assert scorer.score(encode_text_pairs(encoder, fitting).inputs).execution.startswith(
        "packed" if is_packed else "padded"
    )


def test_half_precision_subtracts_in_float32(folder: Path, pairs: Pairs) -> None:
    recipe = recipe_of(folder, 1)
    encoder = load_pair_encoder(folder, recipe=recipe)
    exact, rough = (
        score_pairs(start_scorer(folder, recipe=recipe, dtype=dtype), encoder, pairs)
        for dtype in ("float32", "bfloat16")
    )
    assert np.corrcoef(exact, rough)[0, 1] > 0.98
    assert (rough != torch.tensor(rough).bfloat16().float().numpy()).any()


@pytest.fixture
def seen() -> dict[str, Any]:
    return {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


@pytest.mark.parametrize(
    ("labels", "asked", "said"),
    [
        ({}, None, r"2 labels .*0 \('LABEL_0'\), 1 \('LABEL_1'\), and which .* Set model\.positive_label"),
        ({"id2label": {"0": "no", "1": "yes"}}, None, r"0 \('no'\), 1 \('yes'\)"),
        ({"id2label": {"0": "no", "1": "yes"}}, "maybe", r"model\.positive_label='maybe' names none"),
        ({"id2label": {"0": "no", "1": "yes"}}, 2, r"model\.positive_label=2 names none"),
        ({"id2label": {"0": "same", "1": "same"}}, "same", "or both"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "c", "3 labels .* a reranker has one, or two"),
        ({"id2label": {str(at): f"x{at}" for at in range(9)}}, None, "9 labels .* and 4 more"),
        (
            {"id2label": {"0": "no", "1": "yes"}, "label2id": {"yes": 0, "no": 1}},
            "yes",
            "'yes' is label 1 by id2label .* label 0 by label2id .* to the index",
        ),
        ({"id2label": {"0": "LABEL_0"}}, 0, r"chooses one of two labels, and the model has one .* Remove it"),
    ],
    ids=str,
)
def test_a_label_that_is_not_known_is_asked_for_with_the_names(
    tmp_path: Path, seen: dict[str, Any], labels: dict[str, Any], asked: int | str | None, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        choose_recipe(tmp_path, seen | labels, model="x", positive=asked)


@pytest.mark.parametrize(
    ("labels", "asked", "index"),
    [
        ({}, 1, 1),
        ({}, "LABEL_0", 0),
        ({"id2label": {"0": "no", "1": "yes"}}, "yes", 1),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": {"yes": 0, "no": 1}}, 1, 1),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": {"yes": "1", "no": "0"}}, "yes", 1),
        ({"id2label": {"0": "same", "1": "same"}}, 1, 1),
        ({"id2label": {"0": "1", "1": "0"}}, "1", 0),
        ({"id2label": {"0": "LABEL_0"}}, None, None),
    ],
    ids=str,
)
def test_a_label_is_named_by_index_or_name(
    tmp_path: Path, seen: dict[str, Any], labels: dict[str, Any], asked: int | str | None, index: int | None
) -> None:
    assert choose_recipe(tmp_path, seen | labels, model="x", positive=asked).recipe.positive_label == index


def test_a_generative_model_has_no_label(tmp_path: Path) -> None:
    seen = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
    name = "Qwen/Qwen3-Reranker-0.6B"
    assert choose_recipe(tmp_path, seen, model=name).recipe.positive_label is None
    with pytest.raises(ModelError, match=r"model\.positive_label=1.* has no labels"):
        choose_recipe(tmp_path, seen, model=name, positive=1)


def test_the_key_of_a_job_is_an_index_or_a_name() -> None:
    values = {"input": {"path": "in"}, "output": {"path": "out"}}
    for asked in (1, "relevant", None):
        config = JobConfig.of(values | {"model": {"name": "m", "positive_label": asked}})
        assert config.model.positive_label == asked
    for wrong in (True, -1, ""):
        with pytest.raises(ConfigError, match=r"model\.positive_label"):
            JobConfig.of(values | {"model": {"name": "m", "positive_label": wrong}})


def test_it_is_asked_for_wherever_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model("bert", tmp_path, num_labels=2, **NAMED)
    with pytest.raises(ModelError, match=r"Set model\.positive_label"):
        Reranker.open(str(folder))
    by_name = Reranker.open(str(folder), positive_label="relevant")
    by_index = Reranker.open(str(folder), positive_label=0)
    pair = [("abc", "def")]
    assert by_name.score(pair)[0] == -by_index.score(pair)[0]
    assert run_command(["recipes", "--check", str(folder), "--positive-label", "1"]) == 0
    assert "of label 1 ('relevant') less that of 0 ('irrelevant')" in capsys.readouterr().out
