"""zerank: the repository's own files are the evidence, and scores are those of sentence-transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tiny_causal import qwen, save_causal

from reranker_batch.core.inputs import as_tokens
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import RECIPES, Detected, choose_recipe
from reranker_batch.model.source.files import resolve_model

PAIRS = [
    ("what is it?", "a panda"),
    ("what is it?", "a bear " * 30),
    ("", "\n\nlines"),
    ("\nwho", ""),
    ("3 = ?", "(x) naïve 東京"),
]
INSTRUCT = "Find prose."
QUERY = '{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}'
DOCUMENT = '{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
ASKED = (
    '{% set asked = messages | selectattr("role", "eq", "system") | map(attribute="content") | list %}'
    "{% if asked %}<query>" + QUERY + "</query>\n<instruction>{{ asked[0] }}</instruction>{% else %}"
    "" + QUERY + "{% endif %}"
)


def template(query: str = ASKED, document: str = DOCUMENT, end: str = "\n") -> str:
    """Jinja drops one newline of the end."""
    return (
        f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant{end}\n"
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As sentence-transformers saves it: a Transformer that gives logits, and LogitScore with one token."""
    plain, folder = (tmp_path_factory.mktemp(name) for name in ("plain", "zerank"))
    with quiet_loading():
        save_causal("zerank", plain)
        (plain / "chat_template.jinja").write_text(template())
        modules = [
            Transformer(str(plain), transformer_task="text-generation"),
            LogitScore(true_token_id=qwen().get_vocab()["Yes"]),
        ]
        model = CrossEncoder(modules=modules, activation_fn=torch.nn.Identity())
        model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def choose(folder: Path, **kwargs: Any) -> Detected:
    files = resolve_model(str(folder))
    return choose_recipe(files.folder, files.config(), model=files.name, **kwargs)


@pytest.mark.parametrize("instruct", [None, INSTRUCT])
def test_logits_equal_sentence_transformers(folder: Path, instruct: str | None) -> None:
    recipe = choose(folder, instruct=instruct).recipe
    ours = score_pairs(start_scorer(folder, recipe=recipe), load_pair_encoder(folder, recipe=recipe), PAIRS)
    with quiet_loading():
        peer = CrossEncoder(str(folder), device="cpu")
    theirs = peer.predict(PAIRS, prompt=instruct, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_the_template_and_the_one_answer_are_the_evidence(folder: Path) -> None:
    detected = choose(folder)
    assert detected.recipe.name == "zerank"
    assert "chat_template.jinja makes its prompt" in detected.reason
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"neither its name nor its files.*model\.recipe=zerank\."):
        choose(folder)
    assert choose(folder, name="zerank").recipe is RECIPES["zerank"]


def test_two_answers_are_those_of_another_prompt(folder: Path) -> None:
    path = folder / "1_LogitScore/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"false_token_id": 7}))
    with pytest.raises(ModelError, match="template of its own that no recipe has"):
        choose(folder)
    with pytest.raises(ModelError, match="trained for another prompt"):
        load_pair_encoder(folder, recipe=RECIPES["zerank"])


def test_another_answer_is_refused(folder: Path) -> None:
    path = folder / "1_LogitScore/config.json"
    load_pair_encoder(folder, recipe=RECIPES["zerank"])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"true_token_id": 7}))
    with pytest.raises(ModelError, match="trained for another prompt"):
        load_pair_encoder(folder, recipe=RECIPES["zerank"])


RIGHT = {
    "plain": template(QUERY),
    "with an instruction": template(),
    "one newline short, as Jinja reads it": template(end=""),
}
WRONG = {
    "document first": template(DOCUMENT, QUERY),
    "a think block": template(end="\n<think>\n\n</think>\n\n"),
    "a label": template("Query: " + QUERY),
    "a space": template(" " + QUERY),
    "always an instruction": template(f"<query>{QUERY}</query>\n<instruction>{INSTRUCT}</instruction>"),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("has_score_module", [True, False])
def test_a_template_that_makes_the_prompt_is_accepted(folder: Path, name: str, has_score_module: bool) -> None:
    """Without the module both recipes for a causal Qwen3 are tried."""
    if not has_score_module:
        (folder / "modules.json").unlink()
        shutil.rmtree(folder / "1_LogitScore")
    (folder / "chat_template.jinja").write_text(RIGHT[name])
    recipe = choose(folder).recipe
    assert recipe.name == "zerank"
    load_pair_encoder(folder, recipe=recipe)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("has_score_module", [True, False])
def test_a_template_that_makes_another_text_is_refused_with_both(
    folder: Path, name: str, has_score_module: bool
) -> None:
    if not has_score_module:
        (folder / "modules.json").unlink()
        shutil.rmtree(folder / "1_LogitScore")
    (folder / "chat_template.jinja").write_text(WRONG[name])
    with pytest.raises(ModelError, match=r"makes '.*capital of France.*the recipe zerank makes '.*capital of France"):
        choose(folder)
    with pytest.raises(ModelError, match="capital of France"):
        load_pair_encoder(folder, recipe=RECIPES["zerank"])


def test_a_built_in_instruction_is_honoured_where_it_is_asked_for(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(WRONG["always an instruction"])
    load_pair_encoder(folder, recipe=choose(folder, instruct=INSTRUCT).recipe)
    with pytest.raises(ModelError, match="set model.instruct to the repository's"):
        choose(folder, instruct="Find code.")


@pytest.mark.parametrize("instruct", [None, INSTRUCT])
def test_only_a_document_that_is_too_long_loses_its_end(saved: Path, instruct: str | None) -> None:
    recipe = RECIPES["zerank"].with_instruct(instruct)
    encoder = load_pair_encoder(saved, recipe=recipe)
    at = np.arange(2, dtype=np.int64)
    queries, documents = (
        encoder.encode_texts(side, max_tokens=None) for side in (["what is it?"] * 2, ["\nword " * 400, "short"])
    )
    pairs = (encoder.encode_pairs(queries, documents, at, at, max_pair_tokens=most) for most in (5000, 150))
    whole, cut = (as_tokens(pair.inputs).ids for pair in pairs)
    long, kept = whole[0].tolist(), cut[0].tolist()
    end = qwen()("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert kept == long[: 150 - len(end)] + end
    assert cut[1].tolist() == whole[1].tolist()


@pytest.mark.parametrize("instruct", [None, INSTRUCT])
def test_a_query_that_is_too_long_is_cut_as_it_stands_in_the_prompt(saved: Path, instruct: str | None) -> None:
    """Its first tokens are those of the whole prompt, and the text behind it stays whole."""
    recipe = RECIPES["zerank"].with_instruct(instruct)
    encoder = load_pair_encoder(saved, recipe=recipe)
    at = np.arange(1, dtype=np.int64)
    query, document = (encoder.encode_texts([text], max_tokens=None) for text in ("a " * 400, "text"))
    cut = encoder.encode_pairs(query, document, at, at, max_pair_tokens=400)
    text = qwen().decode(as_tokens(cut.inputs).ids[0].tolist())
    before, after = ("<query>", f"</query>\n<instruction>{instruct}</instruction>") if instruct else ("", "")
    words = "a " * (300 if instruct else 299)  # a newline is counted with a text that follows one
    assert text == (
        f"<|im_start|>system\n{before}{words.rstrip()}{after}<|im_end|>\n<|im_start|>user\ntext<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert cut.query_tokens.tolist() == [300]
