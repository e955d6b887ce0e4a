"""Start-up checks: a model that would give scores without meaning is refused before it scores anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reranker_batch.core.pairs import FloatArray, PairEncoder, PairScorer, encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import SCORED_PAIRS
from reranker_batch.model.encoding.listwise import encode_text_requests
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.folder.json_files import read_object
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.scorer import ModelScorer, load_scorer

logger = logging.getLogger(__name__)
EXPECTED_LOGITS = "expected_logits.json"
_EXACT = 1e-3
_HALF_ABSOLUTE, _HALF_RELATIVE = 0.1, 0.05
_SAME = 1e-6
_NEAR_HALF = 1e-4


def start_scorer(
    folder: Path,
    *,
    recipe: Recipe,
    longest_pair: int | None = None,
    max_batch_tokens: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> ModelScorer[Any]:
    """Load a model and try it: ids fit its embeddings, canary scores make sense, stored scores come out again.

    `longest_pair` is the number of tokens that a pair of the job may have, if fewer than the model reads;
    `max_batch_tokens` is found for the device if it is not given.

    Raises:
        ModelError: The model cannot be used; says what was seen and what to do.
    """
    encoder = load_pair_encoder(folder, recipe=recipe, trust_remote_code=trust_remote_code)
    scorer = load_scorer(
        folder,
        encoder,
        recipe=recipe,
        longest_pair=longest_pair,
        max_batch_tokens=max_batch_tokens,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    # The budget is for the job's pairs, which may be shorter than these.
    roomy = scorer.with_budget(max(scorer.max_batch_tokens, encoder.max_pair_tokens))
    check_canaries(roomy, encoder, recipe=recipe)
    check_expected(folder, roomy, encoder, is_exact=scorer.dtype == torch.float32 and scorer.device.type == "cpu")
    return scorer


def check_canaries(scorer: PairScorer, encoder: PairEncoder, *, recipe: Recipe) -> None:
    """Refuse a model whose scores of relevant and irrelevant pairs are not finite or do not differ."""
    logits = score_pairs(scorer, encoder, SCORED_PAIRS)
    if encoder.is_listwise:
        logits = np.concatenate([logits, _score_together(scorer, encoder)])
    if not np.isfinite(logits).all():
        raise ModelError(
            f"Logits of canary pairs are not finite: {_shown(logits)}. In float16 that is an overflow "
            "(use bfloat16 or float32); in float32 the weights are damaged."
        )
    scores = recipe.activation.scores(logits)
    is_at_half = bool((np.abs(scores - 0.5) < _NEAR_HALF).all())
    if np.ptp(logits) < _SAME or np.ptp(scores) == 0 or is_at_half:
        raise ModelError(
            f"All canary pairs have the same score{', 0.5' if is_at_half else ''}: logits {_shown(logits)}, relevance "
            f"{_shown(scores)}. The head has no trained weights, or the model is not scored the way it was trained for "
            f"(recipe {recipe.name})."
        )


def check_expected(folder: Path, scorer: PairScorer, encoder: PairEncoder, *, is_exact: bool) -> None:
    """Compare with the logits that came with the model, if any did; half precision is allowed its rounding."""
    path = folder / EXPECTED_LOGITS
    if not path.is_file():
        return
    pairs = _stored_pairs(path)
    expected = np.array([pair["logit"] for pair in pairs], dtype=np.float32)
    logits = score_pairs(scorer, encoder, [(pair["query"], pair["document"]) for pair in pairs])
    allowed = _EXACT if is_exact else _HALF_ABSOLUTE + _HALF_RELATIVE * np.abs(expected)
    worst = int(np.argmax(np.abs(logits - expected) - allowed))
    if not (np.abs(logits - expected) <= allowed).all():
        raise ModelError(
            f"The model in {folder} does not give the logits stored in {EXPECTED_LOGITS}: pair {worst} has "
            f"{logits[worst]:.5f}, stored is {expected[worst]:.5f}. The folder is damaged, or this version of "
            "transformers reads it differently."
        )
    logger.info("%d stored logits agree, largest difference %.2g", len(pairs), np.abs(logits - expected).max())


def _stored_pairs(path: Path) -> list[dict[str, Any]]:
    pairs = read_object(path).get("pairs")
    kinds: dict[str, Any] = {"query": str, "document": str, "logit": int | float}
    if (
        not isinstance(pairs, list)
        or not pairs
        or not all(
            isinstance(pair, dict) and all(isinstance(pair.get(key), kind) for key, kind in kinds.items())
            for pair in pairs
        )
    ):
        raise ModelError(f"{path} has no list of pairs, each with query, document and logit. Copy the model again.")
    return pairs


def score_pairs(scorer: PairScorer, encoder: PairEncoder, pairs: Sequence[tuple[str, str]]) -> FloatArray:
    """Logits of a few pairs given as text, in order; for checks, not for the job."""
    encoded = encode_text_pairs(encoder, pairs)
    scores = scorer.score(encoded.inputs)
    for reason in scores.failures.values():
        raise ModelError(f"A pair of the start-up check cannot be scored. {reason}")
    return scores.logits


def _score_together(scorer: PairScorer, encoder: PairEncoder) -> FloatArray:
    """Logits of the documents of the canary pairs in one request."""
    request = (SCORED_PAIRS[0][0], [document for _, document in SCORED_PAIRS])
    return scorer.score(encode_text_requests(encoder, [request]).inputs).logits


def _shown(values: npt.NDArray[np.floating[Any]]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
