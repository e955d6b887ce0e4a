"""llama-nemotron-rerank without its own code: the vendor's text, its arithmetic written out in plain torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_causal import llama, save_nemotron

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import FloatArray, encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.prompting import PromptPairEncoder
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import RECIPES, choose_recipe
from reranker_batch.model.source.files import read_config, resolve_model

Pairs = list[tuple[str, str]]
RECIPE = RECIPES["llama-nemotron-rerank"]
TEMPERATURE = 0.5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet_loading():
        return save_nemotron(tmp_path_factory.mktemp("nemotron"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def vendor_ids(pairs: Pairs) -> list[list[int]]:
    """By the model card: one text, read by the tokenizer with its defaults."""
    tokenizer: Any = llama()
    texts = ["question:" + query + " \n \n passage:" + document for query, document in pairs]
    return [tokenizer(text, split_special_tokens=True)["input_ids"] for text in texts]


def vendor_logits(folder: Path, inputs: list[list[int]]) -> FloatArray:
    """Attention to every token by a mask of zeros, the mean of all states, the head, divided by the temperature."""
    with quiet_loading():
        config = transformers.LlamaConfig.from_dict(
            json.loads((folder / "config.json").read_text()) | {"model_type": "llama"}
        )
        model = transformers.LlamaModel(config)
    weights = load_file(folder / "model.safetensors")
    head = weights.pop("score.weight")
    model.load_state_dict({name.removeprefix("model."): weight for name, weight in weights.items()})
    logits = []
    with torch.inference_mode():
        for ids in inputs:
            everywhere = torch.zeros(1, 1, len(ids), len(ids))
            states = model.eval()(torch.tensor([ids]), attention_mask=everywhere).last_hidden_state
            logits.append((states[0].sum(dim=0) / len(ids) @ head[0] / TEMPERATURE).item())
    return np.array(logits, dtype=np.float32)


def encoder_of(folder: Path) -> PromptPairEncoder:
    encoder = load_pair_encoder(folder, recipe=RECIPE)
    assert isinstance(encoder, PromptPairEncoder)
    return encoder


def test_the_text_is_that_of_the_vendor_token_for_token(made: Path, pairs: Pairs) -> None:
    odd = [("(a", ":b"), ("\n", "\n\n x"), (" lead", "  2 spaces"), ("1:2", "?"), ("<|eot_id|>", "<|begin_of_text|>")]
    encoded = as_tokens(encode_text_pairs(encoder_of(made), [*pairs, *odd]).inputs).ids
    assert [encoded[at].tolist() for at in range(len(encoded))] == vendor_ids([*pairs, *odd])


def test_logits_are_those_of_the_vendors_arithmetic(made: Path, pairs: Pairs) -> None:
    expected = vendor_logits(made, vendor_ids(pairs))
    assert np.ptp(expected) > 0.1
    scorer = start_scorer(made, recipe=RECIPE)
    inputs = encode_text_pairs(encoder_of(made), pairs).inputs
    for budget in (400, 20_000):
        scores = scorer.with_budget(budget).score(inputs)
        np.testing.assert_allclose(scores.logits, expected, rtol=0, atol=1e-5)
    assert scores.execution.startswith("packed")
    causal = vendor_logits_of_a_causal_model(made, vendor_ids(pairs))
    assert np.abs(causal - expected).max() > 0.1


def vendor_logits_of_a_causal_model(folder: Path, inputs: list[list[int]]) -> FloatArray:
    """What transformers' own class would give."""
    config = transformers.LlamaConfig.from_dict(json.loads((folder / "config.json").read_text()))
    with quiet_loading():
        model: Any = transformers.LlamaForSequenceClassification.from_pretrained(folder, config=config)
    with torch.inference_mode():
        return np.array([model(torch.tensor([ids])).logits.item() for ids in inputs], dtype=np.float32) / TEMPERATURE


def test_padding_changes_no_logit(made: Path, pairs: Pairs) -> None:
    """Where the packed pass cannot be used, the padded one is right too."""
    from reranker_batch.model.forward.padded import PaddedForward
    from reranker_batch.model.source.loading import load_model

    cpu = torch.device("cpu")
    model = load_model(made, recipe=RECIPE, dtype=torch.float32, device=cpu, trust_remote_code=False)
    inputs = as_tokens(encode_text_pairs(encoder_of(made), pairs).inputs)
    with torch.inference_mode():
        padded = PaddedForward(model, cpu)(inputs, np.arange(len(pairs))).numpy()
    np.testing.assert_allclose(padded, vendor_logits(made, vendor_ids(pairs)), rtol=0, atol=1e-5)


def test_bfloat16_stays_near_float32(made: Path, pairs: Pairs) -> None:
    encoder = encoder_of(made)
    exact, rough = (
        score_pairs(start_scorer(made, recipe=RECIPE, dtype=dtype), encoder, pairs) for dtype in ("float32", "bfloat16")
    )
    assert np.corrcoef(exact, rough)[0, 1] > 0.98


TEMPLATE = (
    '{{ bos_token }}question:{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}'
    ' \n \n passage:{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
)


def test_it_is_recognised_by_the_vendors_name_or_a_template_of_its_own(folder: Path, tmp_path: Path) -> None:
    config = read_config(folder)
    for name in ("nvidia/llama-nemotron-rerank-1b-v2", "nvidia/llama-nemotron-rerank-500m-v2"):
        assert choose_recipe(folder, config, model=name).recipe is RECIPE
    assert choose_recipe(folder, config, model="nvidia/llama-3.2-nv-rerankqa-1b-v2").recipe is RECIPE
    with pytest.raises(ModelError, match=r"neither its name nor its files.*model\.recipe=llama-nemotron-rerank"):
        choose_recipe(folder, config, model=str(folder))
    assert choose_recipe(folder, config, model=str(folder), name="llama-nemotron-rerank").recipe is RECIPE
    for own in (TEMPLATE, TEMPLATE.removeprefix("{{ bos_token }}")):
        (folder / "chat_template.jinja").write_text(own)
        assert choose_recipe(folder, config, model=str(folder)).recipe is RECIPE
        encoder_of(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace(" \n \n ", " \n\n "))
    for refused in (lambda: choose_recipe(folder, config, model=str(folder)), lambda: encoder_of(folder)):
        with pytest.raises(ModelError, match="template of its own"):
            refused()


def test_none_of_its_code_is_needed_or_run(folder: Path) -> None:
    (folder / "llama_bidirectional_model.py").write_text("raise SystemExit('this must not run')\n")
    files = resolve_model(str(folder))
    start_scorer(files.folder, recipe=choose_recipe(folder, files.config(), model="x", name=RECIPE.name).recipe)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": "last"}, "needs code of its own"),
        ({"architectures": ["LlamaBidirectionalModel"]}, "needs code of its own"),
        ({"temperature": 0}, "lacks a setting .*temperature"),
        ({"temperature": "warm"}, "lacks a setting .*float"),
    ],
    ids=str,
)
def test_settings_that_are_computed_otherwise_are_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    resolve_model(str(folder))
    change(folder, "config.json", **changes)
    with pytest.raises(ModelError, match=said):
        resolve_model(str(folder))


@pytest.mark.parametrize("architecture", ["LlamaForSequenceClassification", RECIPE.architectures[0]])
def test_a_causal_llama_with_a_label_is_not_taken_for_it(folder: Path, architecture: str) -> None:
    change(folder, "config.json", model_type="llama", architectures=[architecture], auto_map={})
    config = read_config(folder)
    with pytest.raises(ModelError, match="No recipe serves"):
        choose_recipe(folder, config, model="nvidia/llama-nemotron-rerank-1b-v2")
    with pytest.raises(ModelError, match="does not serve"):
        choose_recipe(folder, config, model="x", name=RECIPE.name)


Edit = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("edit", "is_refused"),
    [
        (lambda content: content.update(post_processor=None), True),
        (lambda content: content["post_processor"]["single"].append(content["post_processor"]["single"][0]), True),
        (lambda content: content["post_processor"]["pair"].pop(), False),
    ],
    ids=["nothing before a text", "a token behind it", "another template of pairs"],
)
def test_tokens_around_a_text_are_compared_with_the_tokenizers_own(folder: Path, edit: Edit, is_refused: bool) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    if not is_refused:
        encoder_of(folder)
        return
    with pytest.raises(ModelError, match="other tokens around a text"):
        encoder_of(folder)


def test_a_long_passage_loses_its_end(made: Path) -> None:
    encoder = encoder_of(made)
    assert encoder.max_pair_tokens == 2048
    pairs = [("what is it?", "word " * 400), ("what is it?", "short")]
    at = np.arange(2)
    texts = [encoder.encode_texts(side, max_tokens=None) for side in zip(*pairs, strict=True)]
    encoded = encoder.encode_pairs(texts[0], texts[1], at, at, max_pair_tokens=100)
    ids = as_tokens(encoded.inputs).ids
    whole = vendor_ids(pairs)
    assert [ids[0].tolist(), ids[1].tolist()] == [whole[0][:100], whole[1]]
    assert encoded.is_cut.tolist() == [True, False]
