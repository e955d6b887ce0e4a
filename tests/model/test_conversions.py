"""Generative rerankers converted to a head with a single label: the prompt stays, the head has the answers' weights."""

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
from test_causal import encoder_of, lists, plain_logits, vendor_ids
from tiny_causal import gemma, qwen, save_causal

from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Recipe, choose_recipe

Pairs = list[tuple[str, str]]
QUERY = '{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}'
DOCUMENT = '{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
MXBAI = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\nquery: {QUERY}\ndocument: {DOCUMENT}\nYou are a search relevance expert who evaluates how "
    "well documents match search queries. For each query-document pair, carefully analyze the semantic relationship "
    "between them, then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    "<|im_end|>\n<|im_start|>assistant\n\n"
)
GEMMA = (
    f"{{{{ bos_token }}}}A: {QUERY}\nB: {DOCUMENT}\nGiven a query A and a passage B, determine whether the passage "
    "contains an answer to the query by providing a prediction of either 'Yes' or 'No'."
)
FAMILIES: dict[str, tuple[Callable[[], Any], str, str | None, str]] = {
    "mxbai-rerank-base-v2": (qwen, "1", "0", MXBAI),
    "bge-reranker-v2-gemma": (gemma, "Yes", None, GEMMA),
}


def converted(folder: Path, name: str, target: Path) -> Path:
    """A causal model as one with a single label, as people publish them."""
    make_tokenizer, positive, negative, _ = FAMILIES[name]
    tokenizer = make_tokenizer()
    with quiet_loading():
        causal = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        config = transformers.AutoConfig.from_pretrained(folder)
        config.num_labels = 1
        model: Any = transformers.AutoModelForSequenceClassification.from_config(config)
        model.model.load_state_dict(causal.model.state_dict())
        rows: Any = causal.get_output_embeddings().weight.detach()
        weight = rows[tokenizer.convert_tokens_to_ids(positive)].clone()
        if negative is not None:
            weight -= rows[tokenizer.convert_tokens_to_ids(negative)]
        with torch.no_grad():
            model.score.weight.copy_(weight[None])
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module", params=FAMILIES)
def pair_of_folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """The name of a recipe, a causal model and its conversion."""
    with quiet_loading():
        folder = save_causal(request.param, tmp_path_factory.mktemp("causal"))
    return request.param, folder, converted(folder, request.param, tmp_path_factory.mktemp("seq-cls"))


def choose(folder: Path, name: str = "auto") -> Recipe:
    return choose_recipe(folder, read_config(folder), model=str(folder), name=name).recipe


def test_a_conversion_gives_the_logits_of_the_model_that_it_was_made_from(
    pair_of_folders: tuple[str, Path, Path], pairs: Pairs
) -> None:
    name, causal, single = pair_of_folders
    ids = vendor_ids(causal, name, pairs[:20])
    expected = plain_logits(causal, name, ids)
    assert np.ptp(expected) > 0.1
    recipe = choose(single, name)
    encoder = encoder_of(single, recipe)
    assert lists(encode_text_pairs(encoder, pairs[:20])) == ids
    np.testing.assert_allclose(plain_logits(single, name, ids), expected, rtol=0, atol=1e-5)
    ours = score_pairs(start_scorer(single, recipe=recipe), encoder, pairs[:20])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_a_conversion_needs_a_template_of_its_own_or_the_name_of_the_recipe(
    pair_of_folders: tuple[str, Path, Path], tmp_path: Path
) -> None:
    name = pair_of_folders[0]
    single = Path(shutil.copytree(pair_of_folders[2], tmp_path / "model"))
    template = single / "chat_template.jinja"
    sized = json.loads((single / "config.json").read_text()) | {"hidden_size": 896}  # By which base is told from large.
    (single / "config.json").write_text(json.dumps(sized))
    with pytest.raises(ModelError, match=rf"neither its name nor its files.*model\.recipe={name}"):
        choose(single)
    assert choose(single, name).name == name
    template.write_text(FAMILIES[name][3])
    assert choose(single).name == name
    before, between, after = (part for text in FAMILIES[name][3].split(QUERY) for part in text.split(DOCUMENT))
    template.write_text(before + DOCUMENT + between + QUERY + after)
    with pytest.raises(ModelError, match="template of its own that no recipe has"):
        choose(single)


def test_the_size_of_a_conversion_tells_the_shift_of_its_scores(tmp_path: Path) -> None:
    seen = {"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (tmp_path / "chat_template.jinja").write_text(MXBAI)
    for hidden_size, shift in ((896, 4.5), (1536, 6.0)):
        recipe = choose_recipe(tmp_path, seen | {"hidden_size": hidden_size}, model="/models/ours").recipe
        assert recipe.activation.shift == shift
    with pytest.raises(ModelError, match="No recipe serves"):
        choose_recipe(tmp_path, seen | {"hidden_size": 2048}, model="/models/ours")
