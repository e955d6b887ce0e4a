"""Limits of rerank services, and how the candidates of a query become requests within them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from reranker_batch.config import LimitsConfig
from reranker_batch.core.pairs import PairEncoder, max_query_tokens
from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import ConfigError

RequestFormula = Literal["query_once", "query_per_document"]
LongDocuments = Literal["truncate", "max_chunk"]


@dataclass(frozen=True)
class RequestLimits:
    """What one request may hold. `None` means no limit.

    `query_once` counts a request as q + Σd tokens, `query_per_document` as q·n + Σd.
    """

    max_documents: int | None = None
    max_item_tokens: int | None = None
    max_request_tokens: int | None = None
    request_formula: RequestFormula = "query_once"
    max_pair_tokens: int | None = None
    long_documents: LongDocuments = "truncate"
    """What becomes of a document that is longer than `max_pair_tokens` leaves it; see `core.chunks`."""
    is_listwise: bool = False
    """Whether requests are formed: the model reads the documents of one together, and `max_pair_tokens` is about all
    that it reads at once."""


@dataclass(frozen=True)
class LimitsProfile:
    """Published limits of a service, with the place and the date they were read."""

    name: str
    limits: RequestLimits
    source: str
    as_of: str


PROFILES = {
    profile.name: profile
    for profile in (
        LimitsProfile(
            "gte-rerank-v2",
            RequestLimits(500, 4_000, 30_000, "query_once"),
            "Alibaba Cloud Model Studio, Text rerank: at most 500 documents, 4,000 tokens an item, "
            "query and all documents together 30,000 tokens",
            "2025-10-28",
        ),
        LimitsProfile(
            "qwen3-rerank",
            RequestLimits(500, 4_000, 120_000, "query_per_document"),
            "Alibaba Cloud Model Studio, Improve search accuracy: at most 500 documents, 4,000 tokens an item, "
            "query tokens x document count + document tokens at most 120,000",
            "2026-06-30",
        ),
        LimitsProfile("none", RequestLimits(), "no limit but the model's own", "2026-11-22"),
    )
}


def limits_of(config: LimitsConfig, encoder: PairEncoder, *, token_budget: int | None) -> RequestLimits:
    """The limits of a job whose model has this encoder; a full pair fits into a micro-batch of `token_budget`.

    Raises:
        ConfigError: Unknown profile, or limits that no request or no micro-batch could meet.
    """
    limits = resolve_limits(
        config.profile,
        config.overrides(),
        model_max_pair_tokens=encoder.max_pair_tokens,
        num_special_tokens=encoder.num_special_tokens,
    )
    if encoder.is_listwise:
        return _listwise(limits)
    longest = limits.max_pair_tokens or 0
    if token_budget is not None and token_budget < longest:
        raise ConfigError(
            f"batching.max_batch_tokens={token_budget} is below the {longest} tokens that one pair may have. "
            "Raise it or lower limits.max_pair_tokens."
        )
    return limits


def _listwise(limits: RequestLimits) -> RequestLimits:
    """Raises ConfigError for what a model that reads whole requests cannot do."""
    if limits.long_documents == "max_chunk":
        raise ConfigError(
            "limits.long_documents=max_chunk does not apply to a listwise model, which reads the documents of a "
            "request together: chunks of one document would be candidates of the others. Set it to truncate."
        )
    return replace(limits, is_listwise=True)


def resolve_limits(
    profile: str,
    overrides: dict[str, int | str | None],
    *,
    model_max_pair_tokens: int,
    num_special_tokens: int,
) -> RequestLimits:
    """Values of the profile, single overrides on top, the model's own maximum as the ceiling of a pair.

    Raises:
        ConfigError: Unknown profile, or limits that no request could meet.
    """
    if profile not in PROFILES:
        raise ConfigError(f"limits.profile={profile!r} is not known. Known: {', '.join(sorted(PROFILES))}.")
    base = PROFILES[profile].limits
    values = {field.name: getattr(base, field.name) for field in fields(RequestLimits)}
    values.update({key: value for key, value in overrides.items() if value is not None})
    asked = values["max_pair_tokens"]
    values["max_pair_tokens"] = model_max_pair_tokens if asked is None else min(asked, model_max_pair_tokens)
    limits = RequestLimits(**values)
    _check_possible(limits, num_special_tokens)
    return limits


def _check_possible(limits: RequestLimits, num_special_tokens: int) -> None:
    pair_tokens = limits.max_pair_tokens or 0
    for_document = pair_tokens - num_special_tokens - max_query_tokens(pair_tokens)
    if for_document < 1:
        raise ConfigError(
            f"limits.max_pair_tokens={pair_tokens} leaves no token for a document: the query may take "
            f"{max_query_tokens(pair_tokens)} and special tokens take {num_special_tokens}. Raise it."
        )
    if limits.max_request_tokens is None:
        return
    if limits.max_item_tokens is None:
        raise ConfigError(
            f"limits.max_request_tokens={limits.max_request_tokens} without limits.max_item_tokens: a long query "
            "with one long document could never be sent. Set limits.max_item_tokens too."
        )
    if 2 * limits.max_item_tokens > limits.max_request_tokens:
        raise ConfigError(
            f"limits.max_request_tokens={limits.max_request_tokens} cannot hold a query and one document of "
            f"limits.max_item_tokens={limits.max_item_tokens} each ({2 * limits.max_item_tokens} tokens). "
            "Raise the first or lower the second."
        )


def split_requests(query_tokens: int, document_tokens: LongArray, limits: RequestLimits) -> LongArray:
    """First candidate of every request, in order; candidates fill a request until the next would break a limit.

    `document_tokens` has shape [candidates] and is counted after the cut to `max_item_tokens`. A query
    without candidates needs no request.
    """
    num_candidates = len(document_tokens)
    if num_candidates == 0:
        return np.empty(0, dtype=np.int64)
    costs = document_tokens + (query_tokens if limits.request_formula == "query_per_document" else 0)
    base = query_tokens if limits.request_formula == "query_once" else 0
    spent = np.concatenate([[0], np.cumsum(costs)])
    starts = [0]
    while (stop := _request_stop(starts[-1], spent, base, limits)) < num_candidates:
        starts.append(stop)
    return np.asarray(starts, dtype=np.int64)


def _request_stop(start: int, spent: LongArray, base: int, limits: RequestLimits) -> int:
    """First candidate that does not fit any more; one candidate always does."""
    stop = len(spent) - 1
    if limits.max_request_tokens is not None:
        within = spent[start] + limits.max_request_tokens - base
        stop = int(np.searchsorted(spent, within, side="right")) - 1
    if limits.max_documents is not None:
        stop = min(stop, start + limits.max_documents)
    return max(stop, start + 1)


def total_tokens(query_tokens: int, document_tokens: LongArray, num_requests: int, formula: RequestFormula) -> int:
    """Tokens of all requests of one query by the profile's formula."""
    times = num_requests if formula == "query_once" else len(document_tokens)
    return int(query_tokens * times + document_tokens.sum())
