"""Generative rerankers: the vendor's prompt token for token, logits of plain transformers, prefixes computed once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from tiny_causal import CAUSAL, qwen, save_causal
from tiny_models import random_text

from reranker_batch.core.inputs import TokenInputs, as_tokens
from reranker_batch.core.pairs import EncodedPairs
from reranker_batch.errors import ModelError, PairTooLongError
from reranker_batch.model.checks.start import encode_text_pairs, score_pairs, start_scorer
from reranker_batch.model.encoding.canaries import TRIAL_PAIRS
from reranker_batch.model.encoding.prompting import PromptPairEncoder
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.forward.attending import BlockAttention, attend_block
from reranker_batch.model.forward.causal import SharedPrefixForward
from reranker_batch.model.forward.choosing import choose_causal_forward
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import RECIPES, Recipe, is_causal
from reranker_batch.model.source.files import read_config
from reranker_batch.model.source.heads import answer_weights
from reranker_batch.model.source.loading import load_model

GetFolder = Callable[[str], Path]
Pairs = list[tuple[str, str]]
Ids = Callable[[str], list[int]]
CPU = torch.device("cpu")


def recipe_of(name: str) -> Recipe:
    return next(recipe for recipe in RECIPES.values() if name.startswith(recipe.name))


# The vendors' recipes once more, written from their own code: not a word is taken from the package.
def qwen3_ids(ids: Ids, instruct: str | None, query: str, document: str) -> list[int]:
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    instruct = instruct or "Given a web search query, retrieve relevant passages that answer the query"
    body = f"<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}"
    return ids(prefix) + ids(body) + ids("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def zerank_ids(ids: Ids, instruct: str | None, query: str, document: str) -> list[int]:
    """The whole conversation is rendered, then tokenized once."""
    if instruct:
        query = f"<query>{query}</query>\n<instruction>{instruct}</instruction>"
    system, user = f"<|im_start|>system\n{query}<|im_end|>\n", f"<|im_start|>user\n{document}<|im_end|>\n"
    return ids(system + user + "<|im_start|>assistant\n")


def qwen3_vl_ids(ids: Ids, instruct: str | None, query: str, document: str) -> list[int]:
    system = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that "
        'the answer can only be "yes" or "no".'
    )
    instruct = instruct or "Given a search query, retrieve relevant candidates that answer the query."
    user = "<Instruct>: " + instruct + "<Query>:" + (query or "NULL") + "\n<Document>:" + (document or "NULL")
    return ids(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n")


def mxbai_ids(ids: Ids, instruct: str | None, query: str, document: str) -> list[int]:
    query_prompt = f"query: {query}"
    if instruct:
        query_prompt = "\n".join([f"instruction: {instruct}", query_prompt])
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    return (
        ids(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n"
        )
        + ids(query_prompt)
        + ids("\n")
        + ids(f"document: {document}")
        + ids("\n")
        + ids(task)
        + ids("<|im_end|>\n<|im_start|>assistant\n")
    )


def gemma_ids(ids: Ids, instruct: str | None, query: str, document: str) -> list[int]:
    prompt = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing "
        "a prediction of either 'Yes' or 'No'."
    )
    pair = [2, *ids(f"A: {query}"), *ids("\n"), *ids(f"B: {document}")]
    return pair + ids("\n") + ids(prompt)


VENDOR = {
    "qwen3-reranker": qwen3_ids,
    "zerank": zerank_ids,
    "qwen3-vl-reranker": qwen3_vl_ids,
    "mxbai-rerank-base-v2": mxbai_ids,
    "bge-reranker-v2-gemma": gemma_ids,
}
ANSWERS = {
    "qwen3-reranker": ("yes", "no"),
    "zerank": ("Yes", None),
    "qwen3-vl-reranker": ("yes", "no"),
    "mxbai-rerank-base-v2": ("1", "0"),
    "bge-reranker-v2-gemma": ("Yes", None),
}


def vendor_ids(folder: Path, name: str, pairs: Pairs, instruct: str | None = None) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    return [VENDOR[recipe_of(name).name](ids, instruct, *pair) for pair in pairs]


def plain_logits(folder: Path, name: str, inputs: list[list[int]]) -> np.ndarray:
    """One pair at a time through transformers' own forward; the logits of two tokens are subtracted at the end."""
    causal = is_causal(read_config(folder))
    auto: Any = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
    if "-vl-" in name:
        auto = transformers.Qwen3VLForConditionalGeneration
    with quiet_loading():
        model = auto.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        last = [model(input_ids=torch.tensor([ids])).logits[0] for ids in inputs]
    if not causal:
        return np.array([logits.item() for logits in last], dtype=np.float32)
    yes, no = (answer and tokenizer.convert_tokens_to_ids(answer) for answer in ANSWERS[recipe_of(name).name])
    return np.array([(row[-1, yes] - (0 if no is None else row[-1, no])).item() for row in last], dtype=np.float32)


@pytest.fixture(scope="session")
def causal_folder(tmp_path_factory: pytest.TempPathFactory) -> GetFolder:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            with quiet_loading():
                made[name] = save_causal(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(params=CAUSAL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def groups() -> Pairs:
    """Queries with several documents each, of all lengths, in no order; some texts end where tokens may join."""
    rng = random.Random(11)
    queries = [
        "",
        "what is it?",
        "who\n",
        "3 = ?",
        " a",
        "«?»\r\n\r\n",
        "\n\nlines",
        ">=",
        *(random_text(rng, 9) for _ in range(2)),
    ]
    documents = ["", "\n", "3", "  two", "(x)", "e\u0301", "\u0301", "\n\n lines\n", " \n\t\nafter", "\r\nx"]
    drawn = [(query, random_text(rng, rng.choice([2, 9, 20]))) for query in queries for _ in range(3)]
    drawn += [(rng.choice(queries), document) for document in documents]
    rng.shuffle(drawn)
    return drawn


def encoder_of(folder: Path, recipe: Recipe) -> PromptPairEncoder:
    encoder = load_pair_encoder(folder, recipe=recipe)
    assert isinstance(encoder, PromptPairEncoder)
    return encoder


def lists(pairs: EncodedPairs) -> list[list[int]]:
    ids = as_tokens(pairs.inputs).ids
    return [ids[at].tolist() for at in range(len(ids))]


@pytest.mark.parametrize("instruct", [None, "Find {query} and <Document>: that fit?"])
def test_prompts_are_those_of_the_vendor_token_for_token(
    name: str, causal_folder: GetFolder, groups: Pairs, instruct: str | None
) -> None:
    folder, recipe = causal_folder(name), recipe_of(name).with_instruct(instruct)
    encoded = encode_text_pairs(encoder_of(folder, recipe), groups)
    assert lists(encoded) == vendor_ids(folder, name, groups, instruct)


def test_logits_equal_plain_transformers_one_pair_at_a_time(name: str, causal_folder: GetFolder, groups: Pairs) -> None:
    folder, recipe = causal_folder(name), recipe_of(name)
    encoder, scorer = encoder_of(folder, recipe), start_scorer(folder, recipe=recipe, max_batch_tokens=3000)
    theirs = plain_logits(folder, name, vendor_ids(folder, name, groups))
    assert np.ptp(theirs) > 0.1
    for budget in (700, 100_000):
        ours = score_pairs(scorer.with_budget(budget), encoder, groups)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_bfloat16_stays_near_float32(name: str, causal_folder: GetFolder, groups: Pairs) -> None:
    folder, recipe = causal_folder(name), recipe_of(name)
    encoder = encoder_of(folder, recipe)
    exact, rough = (
        score_pairs(start_scorer(folder, recipe=recipe, dtype=dtype), encoder, groups)
        for dtype in ("float32", "bfloat16")
    )
    assert rough.dtype == np.float32
    assert 0 < abs(exact - rough).max() < 0.2 * np.ptp(exact)


def st_template() -> str:
    """As sentence-transformers' conversions have it; Jinja drops one newline of the end."""
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        '<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}\n'
        '<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n"
    )


@pytest.mark.parametrize("name", ["qwen3-reranker", "qwen3-reranker-seq-cls"])
def test_logits_equal_sentence_transformers(name: str, tmp_path: Path, groups: Pairs) -> None:
    folder, recipe = save_causal(name, tmp_path), recipe_of(name)
    (folder / "chat_template.jinja").write_text(st_template())
    ours = score_pairs(start_scorer(folder, recipe=recipe), encoder_of(folder, recipe), groups)
    with quiet_loading():
        peer = CrossEncoder(str(folder), device="cpu")
    theirs = peer.predict(groups, activation_fn=torch.nn.Identity(), batch_size=8, show_progress_bar=False)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_prefix_is_computed_once_a_micro_batch(causal_folder: GetFolder, groups: Pairs) -> None:
    folder, recipe = causal_folder("qwen3-reranker"), recipe_of("qwen3-reranker")
    encoded = encode_text_pairs(encoder_of(folder, recipe), groups)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    weights = torch.ones(model.config.hidden_size)
    forward = SharedPrefixForward(model, weights, torch.device("cpu"))
    seen: list[int] = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    inputs, rows = as_tokens(encoded.inputs), np.arange(len(groups))
    with torch.inference_mode():
        forward(inputs, rows)
    prefixes = {tuple(ids[:own]) for ids, own in zip(lists(encoded), inputs.prefix_tokens, strict=True)}
    alone = int((inputs.costs - inputs.prefix_tokens).sum())
    assert seen == [alone + sum(map(len, prefixes))]
    assert seen == [forward.tokens(inputs, rows)]
    assert seen[0] < inputs.costs.sum() * 0.8


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("budget", [400, 1500, 10_000])
def test_micro_batches_hold_every_row_once_within_the_budget(
    causal_folder: GetFolder, groups: Pairs, budget: int, is_shared: bool
) -> None:
    folder, recipe = causal_folder("qwen3-reranker"), recipe_of("qwen3-reranker")
    encoded = encode_text_pairs(encoder_of(folder, recipe), groups)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    forward = SharedPrefixForward(model, torch.ones(32), torch.device("cpu"))
    inputs = as_tokens(encoded.inputs) if is_shared else TokenInputs.of_ids(as_tokens(encoded.inputs).ids)
    batches = list(forward.micro_batches(inputs, max_batch_tokens=budget))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(groups)))
    assert all(forward.tokens(inputs, rows) <= budget for rows in batches)
    again = forward.micro_batches(inputs, max_batch_tokens=budget)
    assert all((one == other).all() for one, other in zip(batches, again, strict=True))
    with pytest.raises(PairTooLongError):
        list(forward.micro_batches(inputs, max_batch_tokens=int(inputs.costs.max()) - 1))
    assert list(forward.micro_batches(inputs.take(np.array([], dtype=np.int64)), max_batch_tokens=9)) == []


def test_inputs_of_a_group_are_those_with_the_same_prefix(name: str, causal_folder: GetFolder, groups: Pairs) -> None:
    """Queries are given once a pair, so that equal ones are to be recognized; some are capped."""
    encoder = encoder_of(causal_folder(name), recipe_of(name))
    pairs = [*groups, ("word " * 900, "text " * 900), ("word " * 900, "text " * 800), ("word " * 900, "")]
    at = np.arange(len(pairs))
    texts = [encoder.encode_texts(side, max_tokens=None) for side in zip(*pairs, strict=True)]
    encoded = encoder.encode_pairs(texts[0], texts[1], at, at, max_pair_tokens=1500)
    inputs = as_tokens(encoded.inputs)
    prefixes = [tuple(ids[:own]) for ids, own in zip(lists(encoded), inputs.prefix_tokens.tolist(), strict=True)]
    assert len(set(zip(inputs.groups.tolist(), prefixes, strict=True))) == len(set(prefixes)) < len(pairs)
    assert len(set(inputs.groups.tolist())) == len(set(prefixes))


def test_sharing_changes_no_logit(name: str, causal_folder: GetFolder, groups: Pairs) -> None:
    folder, recipe = causal_folder(name), recipe_of(name)
    encoder = encoder_of(folder, recipe)
    encoded = encode_text_pairs(encoder, groups)
    model = load_model(folder, recipe=recipe, dtype=torch.float32, device=CPU, trust_remote_code=False)
    weights = answer_weights(model, encoder.answer_ids)
    forward, shared = SharedPrefixForward(model, weights, torch.device("cpu")), as_tokens(encoded.inputs)
    with torch.inference_mode():
        one, other = (forward(inputs, np.arange(len(groups))) for inputs in (shared, TokenInputs.of_ids(shared.ids)))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_document_too_long_loses_its_end_and_never_the_end_of_the_prompt(causal_folder: GetFolder) -> None:
    """As the vendor cuts the body to what prefix and suffix leave."""
    folder, recipe = causal_folder("qwen3-reranker"), recipe_of("qwen3-reranker")
    encoder = encoder_of(folder, recipe)
    pairs = [("what is it?", "word " * 400), ("what is it?", "short")]
    at = np.arange(2)
    texts = [encoder.encode_texts(side, max_tokens=None) for side in zip(*pairs, strict=True)]
    encoded = encoder.encode_pairs(texts[0], texts[1], at, at, max_pair_tokens=200)
    whole = vendor_ids(folder, "qwen3-reranker", pairs)
    suffix = list(encoder.parts.suffix)
    assert lists(encoded) == [whole[0][: 200 - len(suffix)] + suffix, whole[1]]
    assert encoded.is_cut.tolist() == [True, False]
    assert encoded.document_tokens[0] == 200 - len(suffix) - as_tokens(encoded.inputs).prefix_tokens[0]


def test_a_query_too_long_is_capped_and_leaves_room_for_the_document(causal_folder: GetFolder) -> None:
    encoder = encoder_of(causal_folder("qwen3-reranker"), recipe_of("qwen3-reranker"))
    pairs = [("word " * 900, "text " * 900), ("word " * 900, ""), ("w", "d")]
    at = np.arange(3)
    texts = [encoder.encode_texts(side, max_tokens=None) for side in zip(*pairs, strict=True)]
    encoded = encoder.encode_pairs(texts[0], texts[1], at, at, max_pair_tokens=1000)
    assert encoded.inputs.costs.tolist()[:2] == [1000, 750 + encoder.num_special_tokens + 1]
    assert encoded.query_tokens.tolist()[:2] == [750, 750]
    assert encoded.is_cut.tolist() == [True, True, False]
    cut = [encoder.encode_texts(side, max_tokens=5) for side in zip(*pairs, strict=True)]
    encoded = encoder.encode_pairs(cut[0], cut[1], at, at, max_pair_tokens=1000)
    assert encoded.query_tokens[0] == encoded.document_tokens[0] == 5
    assert encoded.inputs.costs[0] == encoder.num_special_tokens + 10


@pytest.mark.parametrize("name", VENDOR)
def test_text_never_becomes_a_control_token(name: str, causal_folder: GetFolder) -> None:
    encoder = encoder_of(causal_folder(name), recipe_of(name))
    texts = ["<|im_end|>", "a<think>\n\n</think>b", "<|im_start|>system\n", "<bos><eos><pad>"]
    pairs = [(query, document) for query in texts for document in texts]
    control = sorted(encoder.reader.control.ids)
    encoded = encode_text_pairs(encoder, pairs)
    template = np.isin(encoder.parts.constant_ids, control).sum()
    assert template > 0
    assert {int(np.isin(ids, control).sum()) for ids in lists(encoded)} == {template}
    assert encoder.encode_texts(texts, max_tokens=None).tokens.lengths.min() >= 3


def test_an_instruction_is_text_too(causal_folder: GetFolder) -> None:
    recipe = recipe_of("qwen3-reranker").with_instruct("<|im_end|>")
    encoder = encoder_of(causal_folder("qwen3-reranker"), recipe)
    plain = encoder_of(causal_folder("qwen3-reranker"), recipe_of("qwen3-reranker"))
    end = qwen().convert_tokens_to_ids("<|im_end|>")
    assert encoder.parts.constant_ids.count(end) == plain.parts.constant_ids.count(end) == 2


def test_a_tokenizer_of_another_family_is_refused(causal_folder: GetFolder) -> None:
    with pytest.raises(ModelError, match=r"does not know <\|im_start\|>"):
        load_pair_encoder(causal_folder("bge-reranker-v2-gemma"), recipe=RECIPES["qwen3-reranker"])
    with pytest.raises(ModelError, match="does not know <bos>"):
        load_pair_encoder(causal_folder("qwen3-reranker"), recipe=RECIPES["bge-reranker-v2-gemma"])


def test_an_answer_of_several_tokens_is_refused(tmp_path: Path) -> None:
    folder = save_causal("bge-reranker-v2-gemma", tmp_path)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair) != "Yes"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match="'Yes' .* is not one token"):
        load_pair_encoder(folder, recipe=RECIPES["bge-reranker-v2-gemma"])


def test_answers_other_than_those_of_the_repositorys_own_files_are_refused(tmp_path: Path) -> None:
    folder, recipe = save_causal("qwen3-reranker", tmp_path), RECIPES["qwen3-reranker"]
    yes, no = (qwen().convert_tokens_to_ids(answer) for answer in ("yes", "no"))
    path = folder / "1_LogitScore" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"true_token_id": yes, "false_token_id": no}))
    start_scorer(folder, recipe=recipe)
    path.write_text(json.dumps({"true_token_id": no, "false_token_id": yes}))
    with pytest.raises(ModelError, match="trained for another prompt"):
        start_scorer(folder, recipe=recipe)


def scaled(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    return attend_block(query, key, value, mask, scaling * 1.01)


def one_ahead(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Every token sees the one behind it too."""
    width = query.shape[2]
    ahead = torch.ones(width, key.shape[2], dtype=torch.bool).tril(1 + key.shape[2] - width)
    return attend_block(query, key, value, ahead if mask is None else mask | ahead.triu(key.shape[2] - width), scaling)


def of_a_neighbour(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """The first key of its own that a row has, behind the prefix, is that of the row before."""
    at = key.shape[2] - query.shape[2]
    parts = (
        (states[:, :, :at], states[:, :, at : at + 1].roll(1, 0), states[:, :, at + 1 :]) for states in (key, value)
    )
    key, value = (torch.cat(part, 2) for part in parts)
    return attend_block(query, key, value, mask, scaling)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("attention", [scaled, one_ahead, of_a_neighbour])
def test_attention_with_a_small_fault_is_refused_when_a_model_is_loaded(
    attention: BlockAttention, dtype: torch.dtype, causal_folder: GetFolder
) -> None:
    folder = causal_folder("qwen3-reranker")
    encoder = encoder_of(folder, recipe_of("qwen3-reranker"))
    trial = as_tokens(encode_text_pairs(encoder, TRIAL_PAIRS[::3]).inputs)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with pytest.raises(ModelError, match="With shared prefixes"):
        choose_causal_forward(model, encoder.answer_ids, trial, device=CPU, attention=attention)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    assert choose_causal_forward(model, encoder.answer_ids, trial, device=CPU).name == "shared prefix"


def test_attention_that_looks_at_a_window_is_refused(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    folder = save_causal("qwen3-reranker", tmp_path, **changes)
    with pytest.raises(ModelError, match="not plain causal attention"):
        start_scorer(folder, recipe=RECIPES["qwen3-reranker"])


def test_a_model_too_short_for_the_prompt_is_refused(tmp_path: Path) -> None:
    folder = save_causal("qwen3-reranker", tmp_path, max_position_embeddings=110)
    with pytest.raises(ModelError, match="prompt of the recipe qwen3-reranker takes"):
        start_scorer(folder, recipe=RECIPES["qwen3-reranker"])
