"""Folders of listwise rerankers: what is loaded, what is refused, and what happens without enough memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_listwise import encode, load, recipe_of
from tiny_listwise import DIMENSIONS, HIDDEN, VERSIONS, Vendor, save_listwise
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from reranker_batch.config import ModelConfig
from reranker_batch.core.backend import Where
from reranker_batch.core.packing import pack_tokens
from reranker_batch.core.ragged import LongArray, Ragged, offsets_of
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.inspection import explain_model
from reranker_batch.model.checks.start import start_scorer
from reranker_batch.model.encoding.listwise import Request, encode_text_requests, trial_requests
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.forward.attending import ATTENTION, Packed, Spans, attend_block
from reranker_batch.model.forward.choosing import require_plain_vectors
from reranker_batch.model.forward.cosines import request_scores
from reranker_batch.model.forward.listwise import BlockInputs, ListForward
from reranker_batch.model.local import LocalModel
from reranker_batch.model.recipes import RECIPES
from reranker_batch.model.scorer import ListwiseScorer
from reranker_batch.model.source.loading import load_model
from reranker_batch.reranker import Reranker

CPU = torch.device("cpu")
REQUESTS: list[Request] = [("what is a panda?", ["A bear.", "A city in China.", ""]), ("мир", ["東京都"])]
PROJECTOR = "projector.0.weight", "projector.2.weight"


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_folder_in_several_files_with_a_head_that_is_not_used_scores_the_same(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    one = save_listwise(name, tmp_path / "one", dtype=dtype)
    many = save_listwise(name, tmp_path / "many", dtype=dtype)
    weights = load_file(many / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    (many / "model.safetensors").unlink()
    names = sorted(weights)
    places = {key: f"model-{1 + at % 2:05}-of-00002.safetensors" for at, key in enumerate(names)}
    for file in set(places.values()):
        save_file({key: weights[key] for key in names if places[key] == file}, many / file, {"format": "pt"})
    (many / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    scores = []
    for folder in (one, many):
        encoder, scorer = load(folder)
        scores.append(scorer.score(encode(encoder, REQUESTS).inputs).logits)
    np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({PROJECTOR[0]: None, PROJECTOR[1]: None}, r"no projector\.0\.weight and no projector\.2\.weight.*at random"),
        ({PROJECTOR[1]: None}, r"have no projector\.2\.weight"),
        ({PROJECTOR[0]: torch.ones(16, HIDDEN + 1)}, rf"\(16, {HIDDEN + 1}\).*{HIDDEN} numbers \(hidden_size"),
        ({PROJECTOR[1]: torch.ones(DIMENSIONS, 7)}, rf"\({DIMENSIONS}, 7\)"),
        ({PROJECTOR[0]: torch.ones(16)}, r"\(16,\)"),
        ({"projector.0.bias": torch.ones(16)}, r"not used.*projector\.0\.bias"),
        ({"model.layers.1.mlp.up_proj.weight": None}, r"missing.*layers\.1\.mlp\.up_proj"),
        ({"model.extra.weight": torch.ones(4, 4)}, r"not used.*extra"),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_refused(
    weights: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = save_listwise("jina-reranker-v3", tmp_path, weights=weights)
    with pytest.raises(ModelError, match=reason) as error:
        load(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"use_sliding_window": False}, "window is not known.*use_sliding_window"),
        ({"layer_types": ["full_attention"] * 2 + ["chunked_attention"]}, "layers of the kinds chunked_attention"),
    ],
)
def test_layers_that_are_not_known_are_refused(values: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = save_listwise("jina-reranker-v3.5", tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ModelError, match=reason):
        load(tmp_path)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_model_starts_and_is_explained(name: str, tmp_path: Path) -> None:
    folder = save_listwise(name, tmp_path)
    recipe = recipe_of(folder)
    assert recipe.name == name
    scorer = start_scorer(folder, recipe=recipe, device="cpu")
    assert scorer.execution.startswith("packed in float32 on cpu, 4096 tokens")
    inspection = explain_model(str(folder))
    rows = dict(inspection.rows)
    assert inspection.agrees
    assert (rows["served"], rows["recipe"]) == ("yes", f"{name} (version 1)")
    assert rows["relevance_score"] == "(1 + logit) / 2"
    assert "at most 125 documents" in rows["a block"]


def test_a_backend_loads_a_listwise_encoder_and_scorer_and_its_prompt_is_part_of_the_identity(tmp_path: Path) -> None:
    save_listwise("jina-reranker-v3", tmp_path)
    backend = LocalModel.open(ModelConfig(name=str(tmp_path), device="cpu"))
    encoder = backend.load_encoder()
    assert (encoder.is_listwise, encoder.max_pair_tokens) == (True, 131_072)
    assert encoder.num_special_tokens == len(encode(encoder, [("", [""])]).inputs.to_arrow()["ids"][0][0])
    prompt = backend.identity("cpu")["recipe"]["prompt"]
    assert prompt["max_documents"] == 125
    assert json.loads(json.dumps(prompt)) == prompt
    scorer = backend.load_scorer(Where(device="cpu", max_pair_tokens=131_072, max_batch_tokens=4096))
    assert len(scorer.score(encode(encoder, REQUESTS).inputs).logits) == 4


def test_the_repositorys_own_code_is_not_run_even_where_it_is_trusted(tmp_path: Path) -> None:
    folder = save_listwise("jina-reranker-v3", tmp_path)
    (folder / "modeling.py").write_text("raise SystemExit('run')")
    model = load_model(folder, recipe=recipe_of(folder), dtype=torch.float32, device=CPU, trust_remote_code=True)
    assert type(model.base_model).__name__ == "Qwen3Model"


@pytest.mark.parametrize("name", VERSIONS)
def test_a_reranker_reads_its_documents_as_one_list_within_the_limits(name: str, tmp_path: Path) -> None:
    vendor = Vendor(name, save_listwise(name, tmp_path))
    reranker = Reranker.open(str(tmp_path), device="cpu", limits={"max_documents": 4})
    query, documents = "what is a panda?", ["A bear.", "", "東京都", "A bear.", "A city.", "naïve\n"]
    expected = [*vendor.scores(query, documents[:4]), *vendor.scores(query, documents[4:])]
    results = sorted(reranker.rerank(query, documents), key=lambda result: result.index)
    np.testing.assert_allclose([result.logit for result in results], expected, atol=1e-5)
    np.testing.assert_allclose([result.relevance_score for result in results], (1 + np.array(expected)) / 2, atol=1e-5)
    alone = reranker.score([(query, document) for document in documents])
    np.testing.assert_allclose(alone, [vendor.scores(query, [text])[0] for text in documents], atol=1e-5)


def wrong_scale(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    return attend_block(query, key, value, mask, scaling * 1.01)


def wrong_window(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Sees a token more than it should, where there is a mask."""
    return attend_block(query, key, value, mask if mask is None else mask | mask.roll(-1, dims=-1), scaling)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_that_differs_from_the_models_own_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save_listwise("jina-reranker-v3.5", tmp_path)
    recipe = recipe_of(folder)
    encoder = load_pair_encoder(folder, recipe=recipe)
    inputs = encode_text_requests(encoder, trial_requests(encoder, reach=40)).inputs
    assert isinstance(inputs, RequestInputs)
    trial = BlockInputs(inputs.ids, inputs.marks)
    for attention in (wrong_scale, wrong_window, attend_block):
        model = load_model(folder, recipe=recipe, dtype=dtype, device=CPU, trust_remote_code=False)
        forward = ListForward(model, CPU, attention=attention)
        if attention is attend_block:
            require_plain_vectors(forward, model, trial, device=CPU)
        else:
            with pytest.raises(ModelError, match="With several blocks in a row"):
                require_plain_vectors(forward, model, trial, device=CPU)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=6), st.integers(1, 20))
def test_layers_with_a_window_see_the_last_tokens_of_their_own_span(lengths: list[int], window: int) -> None:
    """Compared with one dense mask over the whole row, of which a span sees nothing else."""
    starts = offsets_of(np.array(lengths, dtype=np.int64))
    rng = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, int(starts[-1]), 4, generator=rng) for _ in range(3))
    spans = Spans.alone(starts[:-1], np.diff(starts))
    place = torch.arange(int(starts[-1]))
    span = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    seen = (span[:, None] == span) & (place[:, None] >= place)
    attend: Any = ALL_ATTENTION_FUNCTIONS[ATTENTION]
    for size, mask in ((None, seen), (window, seen & (place[:, None] - place < window))):
        packed = Packed(spans.blocks(CPU), windowed=spans.windowed(window, CPU))
        ours, _ = attend(torch.nn.Module(), query, key, value, None, packed_row=packed, sliding_window=size)
        theirs = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        torch.testing.assert_close(ours, theirs.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_long_block_has_no_mask_that_grows_with_its_square() -> None:
    start, length = np.array([3], dtype=np.int64), np.array([100_000], dtype=np.int64)
    spans = Spans.alone(start, length)
    [whole] = spans.blocks(CPU)
    assert whole.mask is None
    tiles = spans.windowed(1024, CPU)
    assert sorted(place for tile in tiles for place in tile.at.tolist()) == list(range(3, 100_003))
    assert {0 if tile.mask is None else tile.mask.numel() for tile in tiles} == {0, 2 << 20}
    assert max(tile.queries.shape[0] for tile in tiles) <= 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_a_gpu_gives_the_same_scores(name: str, dtype: str, tolerance: float, tmp_path: Path) -> None:
    folder = save_listwise(name, tmp_path)
    encoder, scorer = load(folder)
    inputs = encode(encoder, REQUESTS).inputs
    on_gpu = load(folder, device="cuda", dtype=dtype)[1].score(inputs)
    np.testing.assert_allclose(on_gpu.logits, scorer.score(inputs).logits, atol=tolerance)


class SmallDevice:
    """Has memory for `capacity` tokens; the vectors of a block are its first id and the number of its mark."""

    name = "small"

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.passes: list[int] = []

    def micro_batches(self, inputs: BlockInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        return pack_tokens(inputs.costs, max_batch_tokens=max_batch_tokens)

    def tokens(self, inputs: BlockInputs, rows: LongArray) -> int:
        return int(inputs.costs[rows].sum())

    def __call__(self, inputs: BlockInputs, rows: LongArray) -> torch.Tensor:
        if self.tokens(inputs, rows) > self.capacity:
            raise torch.OutOfMemoryError("tried to allocate too much")
        self.passes.append(self.tokens(inputs, rows))
        return torch.tensor([[1.0 + inputs.ids[row][0], mark] for row in rows for mark in inputs.marks[row]])


def requests_of(blocks: list[list[int]]) -> RequestInputs:
    """Requests of blocks of so many tokens; each token but the last two is the mark of a document."""
    sizes = [size for request in blocks for size in request]
    ids = Ragged.from_lists([[at] * size for at, size in enumerate(sizes)])
    marks = Ragged.from_lists([range(size - 1) for size in sizes])
    offsets = offsets_of(np.array([len(request) for request in blocks], dtype=np.int64))
    return RequestInputs(ids, marks, offsets, np.arange(len(blocks), dtype=np.int64))


def scorer_on(device: SmallDevice, *, max_batch_tokens: int) -> ListwiseScorer:
    recipe = RECIPES["jina-reranker-v3"]
    return ListwiseScorer(device, recipe=recipe, dtype=torch.float32, device=CPU, max_batch_tokens=max_batch_tokens)


@given(st.lists(st.lists(st.integers(3, 30), min_size=1, max_size=3), max_size=12), st.integers(2, 100))
def test_a_request_with_a_block_that_does_not_fit_alone_fails_and_the_others_are_scored(
    blocks: list[list[int]], capacity: int
) -> None:
    requests = requests_of(blocks)
    scores = scorer_on(SmallDevice(capacity), max_batch_tokens=100).score(requests)
    too_large = {at for at, request in enumerate(blocks) if max(request) > capacity}
    assert set(scores.failures) == too_large
    for at, reason in scores.failures.items():
        assert reason.reason_code == "out_of_memory"
        assert f"request with a block of {max(size for size in blocks[at] if size > capacity)} tokens" in str(reason)
    roomy = scorer_on(SmallDevice(100), max_batch_tokens=100).score(requests)
    is_failed = np.repeat([at in too_large for at in range(len(blocks))], requests.sizes)
    np.testing.assert_array_equal(scores.logits, np.where(is_failed, np.nan, roomy.logits).astype(np.float32))


def test_a_micro_batch_that_does_not_fit_is_halved_once_for_good() -> None:
    device = SmallDevice(capacity=40)
    scorer = scorer_on(device, max_batch_tokens=100)
    assert scorer.score(requests_of([[10, 10]] * 5)).oom_splits == 2
    assert scorer.score(requests_of([[10, 10]] * 5)).oom_splits == 0
    assert max(device.passes) <= 40


def test_a_block_over_the_budget_is_computed_alone(tmp_path: Path) -> None:
    encoder, scorer = load(save_listwise("jina-reranker-v3.5", tmp_path))
    inputs = encode(encoder, [*REQUESTS, ("q", ["many words"] * 30)]).inputs
    small = scorer.with_budget(1)
    np.testing.assert_allclose(small.score(inputs).logits, scorer.score(inputs).logits, atol=1e-5)


def test_vectors_without_a_length_or_without_a_number_give_no_wrong_scores() -> None:
    some = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], dtype=np.float32)
    nothing, broken = np.zeros((3, 2), dtype=np.float32), np.full((2, 2), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(request_scores([some]), [1, 0])
    np.testing.assert_array_equal(request_scores([nothing]), [0, 0])
    np.testing.assert_array_equal(request_scores([some, nothing]), [1, 0, 0, 0])
    assert np.isnan(request_scores([some, broken])).all()
    away = np.array([[-1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(request_scores([away, away]), [-1, -1])
