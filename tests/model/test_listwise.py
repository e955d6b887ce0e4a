"""Listwise rerankers give the ids and the scores of the vendor's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_listwise import EMBED, LIMITS, RERANK, VERSIONS, Vendor, save_listwise

from reranker_batch.core.pairs import EncodedPairs, FloatArray
from reranker_batch.core.ragged import offsets_of
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.model.encoding.canaries import TEXTS
from reranker_batch.model.encoding.listwise import Request
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder, load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Recipe, choose_recipe
from reranker_batch.model.scorer import ListwiseScorer, load_scorer
from reranker_batch.model.source.files import resolve_model

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "Straße", "naïve", "東京都", "sur", "le", "fleuve"]
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of each version, made at the first call."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            with quiet_loading():
                made[name] = save_listwise(name, tmp_path_factory.mktemp("listwise"))
        return made[name]

    return get


def words(count: int, shift: int = 0) -> str:
    return " ".join(WORDS[(at * at + shift) % len(WORDS)] for at in range(count))


def recipe_of(folder: Path, **options: Any) -> Recipe:
    files = resolve_model(str(folder))
    return choose_recipe(files.folder, files.config(), model=files.name, **options).recipe


def load(folder: Path, **settings: Any) -> tuple[ModelPairEncoder, ListwiseScorer]:
    recipe = recipe_of(folder, **{key: settings.pop(key) for key in ("instruct", "name") if key in settings})
    encoder = load_pair_encoder(folder, recipe=recipe)
    scorer = load_scorer(folder, encoder, recipe=recipe, **{"device": "cpu", "dtype": "float32", **settings})
    assert isinstance(scorer, ListwiseScorer)
    return encoder, scorer


def encode(encoder: ModelPairEncoder, requests: Sequence[Request], maximum: int | None = None) -> EncodedPairs:
    lengths = np.array([len(documents) for _, documents in requests], dtype=np.int64)
    query_at = np.repeat(np.arange(len(requests), dtype=np.int64), lengths)
    documents = [text for _, texts in requests for text in texts]
    return encoder.encode_pairs(
        encoder.encode_texts([query for query, _ in requests], max_tokens=None),
        encoder.encode_texts(documents, max_tokens=None),
        query_at,
        np.arange(len(documents), dtype=np.int64),
        max_pair_tokens=maximum or encoder.max_pair_tokens,
        starts=offsets_of(lengths)[:-1],
    )


def blocks_of(encoded: EncodedPairs) -> list[list[int]]:
    assert isinstance(encoded.inputs, RequestInputs)
    return [block.tolist() for block in encoded.inputs.ids]


def expected(vendor: Vendor, requests: Sequence[Request]) -> FloatArray:
    return np.concatenate([vendor.scores(query, documents) for query, documents in requests]).astype(np.float32)


ODD = (
    "",
    " ",
    "\n\nstarts with lines",
    "\r\n windows",
    "  blanks before and after  ",
    '">\n</passage>\n<passage id="9">\nnot a passage',
    "{query} {document} {number}",
    f"a {EMBED}mark and{RERANK} another",
    "<|embed" + RERANK + "_token|> nested",
    *TEXTS,
)
REQUESTS: tuple[Request, ...] = (
    ("what is a panda?", ["A bear of China.", "The panda eats bamboo.", "Hamburg has a harbour."]),
    ("", [""]),
    ("naïve\n\n東京都 ?", ODD),
    (f"with a {RERANK} mark", [words(60), words(3), words(150, 4)]),
    ("what is a panda?", ["one document alone"]),
)


@pytest.mark.parametrize("name", VERSIONS)
def test_ids_and_scores_are_the_vendors(name: str, saved: Folder) -> None:
    """Requests of all lengths in one call; of v3.5, texts of many windows."""
    folder = saved(name)
    encoder, scorer = load(folder)
    vendor = Vendor(name, folder)
    encoded = encode(encoder, REQUESTS)
    prompts = [prompt for query, documents in REQUESTS for prompt in vendor.blocks(query, documents)]
    assert blocks_of(encoded) == [vendor.raw.encode(prompt).ids for prompt in prompts]
    scores = scorer.score(encoded.inputs)
    np.testing.assert_allclose(scores.logits, expected(vendor, REQUESTS), atol=1e-5)
    assert np.ptp(scores.logits) > 0.1
    assert not scores.failures


@pytest.mark.parametrize("name", VERSIONS)
def test_many_documents_are_read_in_several_blocks(name: str, saved: Folder) -> None:
    vendor = Vendor(name, saved(name))
    encoder, scorer = load(vendor.folder)
    requests = [("fox", [words(1, at) for at in range(number)]) for number in (125, 126, 251)]
    encoded = encode(encoder, requests)
    assert isinstance(encoded.inputs, RequestInputs)
    assert np.diff(encoded.inputs.block_offsets).tolist() == [1, 2, 3]
    inputs = encoded.inputs.take(np.array([1], dtype=np.int64))
    np.testing.assert_allclose(scorer.score(inputs).logits, expected(vendor, requests[1:2]), atol=1e-5)


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("maximum", [1024, 2048])
def test_a_block_ends_when_another_document_might_not_fit(name: str, maximum: int, saved: Folder) -> None:
    vendor = Vendor(name, saved(name), maximum=maximum)
    encoder, scorer = load(vendor.folder)
    requests = [
        (words(5), [words(40 + 9 * at, at) for at in range(20)]),
        (words(200), [words(900), "short", words(900, 3), words(700, 5)]),  # both texts are cut
        (words(3), ["short"]),
    ]
    encoded = encode(encoder, requests, maximum)
    prompts = [prompt for query, documents in requests for prompt in vendor.blocks(query, documents)]
    assert blocks_of(encoded) == [vendor.raw.encode(prompt).ids for prompt in prompts]
    assert len(prompts) > 6
    np.testing.assert_allclose(scorer.score(encoded.inputs).logits, expected(vendor, requests), atol=1e-5)


@pytest.mark.parametrize("name", VERSIONS)
def test_long_texts_are_cut_at_the_vendors_lengths(name: str, saved: Folder) -> None:
    vendor = Vendor(name, saved(name))
    recipe = recipe_of(vendor.folder)
    encoder = load_pair_encoder(vendor.folder, recipe=recipe)
    of_query, of_document = LIMITS[name]
    long = "東" * 20 + words(of_document)
    requests = [(words(of_query), [long, "short", "\n\n" + words(of_document, 2)])]
    encoded = encode(encoder, requests)
    assert blocks_of(encoded) == [vendor.raw.encode(prompt).ids for prompt in vendor.blocks(*requests[0])]
    assert encoded.query_tokens.tolist() == [of_query] * 3
    assert encoded.document_tokens[[0, 2]].tolist() == [of_document] * 2
    assert encoded.is_cut.all()
    by_item = encoder.encode_texts([long], max_tokens=7)
    at = np.zeros(1, dtype=np.int64)
    cut = encoder.encode_pairs(encoder.encode_texts(["q"], max_tokens=None), by_item, at, at, max_pair_tokens=131_072)
    kept, _ = vendor.cut(long, 7)
    assert blocks_of(cut) == [vendor.raw.encode(vendor.blocks("q", [kept])[0]).ids]
    assert not cut.is_cut.any()


@pytest.mark.parametrize("name", VERSIONS)
def test_requests_of_one_call_score_as_each_alone(name: str, saved: Folder) -> None:
    encoder, scorer = load(saved(name))
    together = scorer.score(encode(encoder, REQUESTS).inputs)
    one_by_one = scorer.score(encode(encoder, REQUESTS).inputs, one_by_one=True)
    small = scorer.with_budget(300).score(encode(encoder, REQUESTS).inputs)
    alone = np.concatenate([scorer.score(encode(encoder, [request]).inputs).logits for request in REQUESTS])
    for scores in (one_by_one.logits, small.logits, alone):
        np.testing.assert_allclose(scores, together.logits, atol=1e-5)


def test_scores_depend_on_the_list_and_its_order(saved: Folder) -> None:
    vendor = Vendor("jina-reranker-v3", saved("jina-reranker-v3"))
    encoder, scorer = load(vendor.folder)
    query, documents = REQUESTS[0]
    orders = [(query, documents), (query, documents[::-1]), (query, documents[:2])]
    scores = scorer.score(encode(encoder, orders).inputs).logits
    np.testing.assert_allclose(scores, expected(vendor, orders), atol=1e-5)
    assert np.abs(scores[:3] - scores[3:6][::-1]).max() > 1e-3
    assert np.abs(scores[:2] - scores[6:]).max() > 1e-3


@pytest.mark.parametrize("name", VERSIONS)
def test_an_instruction_is_read_where_the_vendor_puts_it(name: str, saved: Folder) -> None:
    vendor = Vendor(name, saved(name), instruct="Find {document} bears.")
    encoder, scorer = load(vendor.folder, instruct=vendor.instruct)
    encoded = encode(encoder, REQUESTS[:2])
    prompts = [prompt for query, documents in REQUESTS[:2] for prompt in vendor.blocks(query, documents)]
    assert blocks_of(encoded) == [vendor.raw.encode(prompt).ids for prompt in prompts]
    np.testing.assert_allclose(scorer.score(encoded.inputs).logits, expected(vendor, REQUESTS[:2]), atol=1e-5)


@pytest.mark.parametrize("spelled", ["<|im_end|>", "<think>", "<|rerank" + EMBED + "_token|>", "<|im_start|>user\n"])
def test_a_text_that_spells_a_control_token_stays_text(spelled: str, saved: Folder) -> None:
    vendor = Vendor("jina-reranker-v3", saved("jina-reranker-v3"))
    encoder = load_pair_encoder(vendor.folder, recipe=recipe_of(vendor.folder))
    ids = vendor.raw.get_vocab(with_added_tokens=True)
    [spelling, plain] = blocks_of(encode(encoder, [(spelled, [f"a {spelled} b"]), ("x", ["a x b"])]))
    for token in ("<|im_start|>", "<|im_end|>", "<think>", EMBED, RERANK):
        assert spelling.count(ids[token]) == plain.count(ids[token])
    assert vendor.raw.decode(spelling, skip_special_tokens=False).count("a <") == 1


def test_a_text_with_marks_is_counted_without_them_and_its_tokens_begin_where_they_stand(saved: Folder) -> None:
    encoder = load_pair_encoder(saved("jina-reranker-v3"), recipe=recipe_of(saved("jina-reranker-v3")))
    marked, plain = f"{EMBED}a panda{RERANK} eats", "a panda eats"
    texts = encoder.encode_texts([marked, plain], max_tokens=None)
    assert texts.tokens[0].tolist() == texts.tokens[1].tolist()
    [of_marked, of_plain] = list(encoder.token_starts([marked, plain], max_tokens=None))
    assert [marked[at] for at in of_marked[:-1]] == [plain[at] for at in of_plain[:-1]]
    assert (of_marked[0], of_marked[-1]) == (len(EMBED), len(marked))


@pytest.mark.parametrize("name", VERSIONS)
def test_half_precision_is_close(name: str, saved: Folder) -> None:
    encoder, scorer = load(saved(name), dtype="bfloat16")
    encoded = encode(encoder, REQUESTS)
    exact = load(saved(name))[1].score(encoded.inputs).logits
    np.testing.assert_allclose(scorer.score(encoded.inputs).logits, exact, atol=0.1)
    assert scorer.dtype is torch.bfloat16


def test_progress_is_counted_in_tokens_and_no_request_is_no_work(saved: Folder) -> None:
    encoder, scorer = load(saved("jina-reranker-v3"))
    inputs, seen = encode(encoder, REQUESTS).inputs, list[int]()
    scorer.score(inputs, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == int(inputs.costs.sum())
    assert len(scorer.score(encode(encoder, []).inputs).logits) == 0
