"""A head of sentence-transformers modules: the same logits, or refused by the name of what is not served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from tiny_models import save_chain

from reranker_batch.config import ModelConfig
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.inspection import explain_model
from reranker_batch.model.checks.start import encode_text_pairs, score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.local import LocalModel
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import RECIPES, choose_recipe
from reranker_batch.model.source.files import resolve_model

Pairs = list[tuple[str, str]]
Change = Callable[[Path], object]
CHAIN = RECIPES["module-chain"]
SHAPES = {
    "ettin": ("modernbert", "cls"),
    "modernbert, mean": ("modernbert", "mean"),
    "bert, with token types and a pooler": ("bert", "cls"),
    "xlm-roberta, mean": ("xlm-roberta", "mean"),
    "deberta-v2, padded": ("deberta-v2", "mean"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @lru_cache
    def get(name: str) -> Path:
        family, pooling = SHAPES[name]
        with quiet_loading():
            return save_chain(family, tmp_path_factory.mktemp("chain"), pooling=pooling)

    return get


@pytest.fixture
def ettin(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved("ettin"), tmp_path / "model"))


def ours(folder: Path, pairs: Pairs, **kwargs: Any) -> np.ndarray:
    files = resolve_model(str(folder))
    recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
    assert recipe is CHAIN
    return score_pairs(start_scorer(folder, recipe=recipe, **kwargs), load_pair_encoder(folder, recipe=recipe), pairs)


def theirs(folder: Path, pairs: Pairs) -> np.ndarray:
    with quiet_loading():
        peer = CrossEncoder(str(folder), device="cpu")
    logits = peer.predict(pairs, activation_fn=torch.nn.Identity(), batch_size=8, show_progress_bar=False)
    return np.asarray(logits)


def fitting(folder: Path, pairs: Pairs) -> Pairs:
    is_cut = encode_text_pairs(load_pair_encoder(folder, recipe=CHAIN), pairs).is_cut
    chosen = [pair for pair, cut in zip(pairs, is_cut, strict=True) if not cut]
    assert len(chosen) > 20
    return chosen


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_sentence_transformers(name: str, saved: Callable[[str], Path], pairs: Pairs) -> None:
    folder = saved(name)
    chosen = fitting(folder, pairs)
    expected = theirs(folder, chosen)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(ours(folder, chosen, max_batch_tokens=300), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_run_without_padding_where_its_encoder_is(name: str, saved: Callable[[str], Path]) -> None:
    for dtype in ("float32", "bfloat16"):
        forward = start_scorer(saved(name), recipe=CHAIN, dtype=dtype).forward
        assert forward.name == ("padded" if "padded" in name else "packed")


def test_bfloat16_stays_near_float32(saved: Callable[[str], Path], pairs: Pairs) -> None:
    exact, rough = (ours(saved("ettin"), pairs, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert 0 < abs(exact - rough).max() < 0.2 * np.ptp(exact)


def test_the_weights_of_modules_decide_what_a_model_is(ettin: Path) -> None:
    before = LocalModel.open(ModelConfig(name=str(ettin)))
    assert before.recipe is CHAIN
    path = ettin / "2_Dense" / "model.safetensors"
    save_file({name: weight * 2 for name, weight in load_file(path).items()}, path)
    after = LocalModel.open(ModelConfig(name=str(ettin)))
    assert before.identity("cpu")["model"] != after.identity("cpu")["model"]


def test_the_activation_of_the_repository_is_told(ettin: Path) -> None:
    files = resolve_model(str(ettin))
    [note] = choose_recipe(files.folder, files.config(), model=files.name).notes
    assert "Identity" in note


def test_recipes_check_says_that_modules_make_its_score(ettin: Path) -> None:
    explained = explain_model(str(ettin))
    rows = dict(explained.rows)
    assert rows["served"] == "yes"
    assert rows["what it is"].startswith("encoder with modules of sentence-transformers on top: ModernBertModel")
    assert rows["modules"] == "Transformer, Pooling, Dense, LayerNorm, Dense, Dense"
    assert rows["run"].startswith("packed in float32")


def as_older_versions_save(folder: Path) -> None:
    """Names of classes and keys before version 5.7."""
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40, "do_lower_case": False}))


def test_the_layout_of_older_versions_is_read_too(ettin: Path, pairs: Pairs) -> None:
    as_older_versions_save(ettin)
    chosen = fitting(ettin, pairs)
    np.testing.assert_allclose(ours(ettin, chosen), theirs(ettin, chosen), rtol=0, atol=1e-5)


def setting(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def ordered(*order: int) -> Change:
    def change(folder: Path) -> None:
        path = folder / "modules.json"
        modules = json.loads(path.read_text())
        path.write_text(json.dumps([modules[at] for at in order]))

    return change


def module(at: int, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "modules.json"
        modules = json.loads(path.read_text())
        modules[at] |= values
        path.write_text(json.dumps(modules))

    return change


SERVED = {
    "ReLU": setting("2_Dense/config.json", activation_function="torch.nn.modules.activation.ReLU"),
    "a short name": setting("2_Dense/config.json", activation_function="torch.nn.Tanh"),
    "a list of one pooling": setting("1_Pooling/config.json", pooling_mode=["mean"]),
    "pooling without the prompt": setting("1_Pooling/config.json", include_prompt=False),
    "no residual": setting("2_Dense/config.json", use_residual=False),
    "a limit of tokens": setting("sentence_bert_config.json", max_seq_length=40),
    "the norm left out": ordered(0, 1, 2, 4, 5),
}
REFUSED: dict[str, tuple[Change, str]] = {
    "another activation": (
        setting("2_Dense/config.json", activation_function="torch.nn.modules.activation.SiLU"),
        r"2_Dense/config\.json has activation_function .*SiLU.*Served: GELU, Identity, ReLU, Tanh",
    ),
    "an activation of its own": (
        setting("2_Dense/config.json", activation_function="own.GELU"),
        r"activation_function 'own\.GELU'",
    ),
    "no activation": (setting("2_Dense/config.json", activation_function=None), "activation_function 'None'"),
    "max pooling": (setting("1_Pooling/config.json", pooling_mode="max"), r"pooling_mode 'max'.*cls or mean"),
    "two poolings": (setting("1_Pooling/config.json", pooling_mode=["cls", "mean"]), r"pooling_mode \"\['cls', 'mean'"),
    "a residual": (setting("2_Dense/config.json", use_residual=True), "use_residual 'True'"),
    "another input": (setting("4_Dense/config.json", module_input_name="token_embeddings"), "module_input_name"),
    "a score too early": (setting("4_Dense/config.json", module_output_name="scores"), "module_output_name 'scores'"),
    "no score": (setting("5_Dense/config.json", module_output_name=None), "module_output_name 'sentence_embedding'"),
    "two scores": (setting("5_Dense/config.json", out_features=2), "out_features '2'"),
    "other widths": (ordered(0, 1, 3, 2, 4, 5), "3_LayerNorm takes 24 numbers, and 32 come before it"),
    "a norm last": (ordered(0, 1, 2, 3), "embedding model"),
    "no head": (ordered(0, 1), "embedding model"),
    "no pooling": (ordered(0, 2, 3, 4, 5), "Served are a Transformer, then Pooling"),
    "another module": (
        module(3, type="sentence_transformers.base.modules.normalize.Normalize"),
        r"module Normalize .*not served",
    ),
    "a module of its own": (module(3, type="custom_st.LayerNorm"), r"'custom_st\.LayerNorm', which is code"),
    "a place outside": (module(2, path="../2_Dense"), r"the path '\.\./2_Dense'"),
    "an encoder elsewhere": (module(0, path="0_Transformer"), "the path '0_Transformer'"),
    "logits of the encoder": (
        setting("sentence_bert_config.json", transformer_task="sequence-classification"),
        "transformer_task 'sequence-classification'",
    ),
    "another output of the encoder": (
        setting(
            "sentence_bert_config.json",
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
        ),
        "method_output_name 'pooler_output'",
    ),
    "no size": (setting("2_Dense/config.json", in_features=None), "None as in_features"),
    "no settings": (lambda folder: (folder / "2_Dense/config.json").unlink(), r"2_Dense/config\.json is missing"),
}


@pytest.mark.parametrize("name", SERVED)
def test_a_chain_of_what_is_listed_is_served(name: str, ettin: Path, pairs: Pairs) -> None:
    SERVED[name](ettin)
    chosen = fitting(ettin, pairs)[:12]
    np.testing.assert_allclose(ours(ettin, chosen), theirs(ettin, chosen), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_listed_is_refused_by_name(name: str, ettin: Path) -> None:
    resolve_model(str(ettin))
    change, message = REFUSED[name]
    change(ettin)
    with pytest.raises(ModelError, match=message):
        resolve_model(str(ettin))


def reshaped(folder: Path) -> None:
    path = folder / "4_Dense/model.safetensors"
    save_file({name: weight.flip(0).reshape(-1, 8) for name, weight in load_file(path).items()}, path)


def renamed(folder: Path) -> None:
    path = folder / "4_Dense/model.safetensors"
    save_file({name.replace("linear", "residual"): weight for name, weight in load_file(path).items()}, path)


BROKEN: dict[str, tuple[Change, str]] = {
    "missing": (lambda folder: (folder / "4_Dense/model.safetensors").unlink(), "is missing, so the head would have"),
    "of another shape": (reshaped, r"has the weights .*\(24, 8\).*wants .*\(8, 24\)"),
    "of other names": (renamed, r"has the weights .*residual\.weight"),
    "not whole": (
        lambda folder: (folder / "4_Dense/model.safetensors").write_bytes(b"half"),
        "not a whole safetensors",
    ),
    "of the encoder missing": (
        lambda folder: save_file(
            {k: v for k, v in load_file(folder / "model.safetensors").items() if "Wo" not in k},
            folder / "model.safetensors",
        ),
        r"Weights are missing .*layers\.0",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_do_not_fit_are_refused_by_the_file(name: str, ettin: Path) -> None:
    change, message = BROKEN[name]
    change(ettin)
    with pytest.raises(ModelError, match=message):
        start_scorer(ettin, recipe=CHAIN)


def test_a_chain_is_no_other_recipes_and_the_recipe_serves_no_other_folder(ettin: Path) -> None:
    config = resolve_model(str(ettin)).config()
    with pytest.raises(ModelError, match="model.recipe='cross-encoder' does not serve"):
        choose_recipe(ettin, config, model="x", name="cross-encoder")
    assert choose_recipe(ettin, config, model="x", name="module-chain").recipe is CHAIN
    with pytest.raises(ModelError, match="chain of modules on an encoder that was not compared"):
        choose_recipe(ettin, config | {"model_type": "albert"}, model="x")
    (ettin / "modules.json").unlink()
    with pytest.raises(ModelError, match="embedding or language model is not a reranker"):
        choose_recipe(ettin, config, model="x")
    with pytest.raises(ModelError, match="model.recipe='module-chain' does not serve"):
        choose_recipe(ettin, config, model="x", name="module-chain")
