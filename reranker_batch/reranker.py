"""One model in memory: a query and its documents in, ranked results out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.config import BatchingConfig, LimitsConfig, ModelConfig, checked
from reranker_batch.core.backend import ScoringBackend, Where
from reranker_batch.core.limits import RequestLimits, limits_of
from reranker_batch.core.pairs import FloatArray, PairEncoder, PairScorer
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.core.units import FileIdentity, Span, WorkUnit, unit_id_of
from reranker_batch.errors import ConfigError, RowError
from reranker_batch.model.local import LocalModel
from reranker_batch.model.source.devices import device_here
from reranker_batch.pipeline import (
    FinishedUnit,
    ResultSettings,
    ScoredUnit,
    finish_unit,
    prepare_unit,
    score_unit,
    separate_non_finite,
)
from reranker_batch.storage.files.fetching import copy_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """One document of a `rerank` call, with its place among the documents that were given."""

    index: int
    document: str
    relevance_score: float
    """0 to 1."""
    logit: float
    """The model's raw output."""
    rank: int
    """From 1; by logit, ties by `index`."""
    truncated: bool
    """Query or document lost text to a limit."""
    chunk: tuple[int, int] | None = None
    """The characters of the document that the logit is of, with `long_documents: max_chunk`; else None."""


@dataclass(frozen=True, repr=False)
class Reranker:
    """One model in memory, with the scores that a job gives. Calls block; threads may share it, one scores at a time.

    Build it with `Reranker.open`.
    """

    backend: ScoringBackend
    encoder: PairEncoder
    scorer: PairScorer
    limits: RequestLimits
    token_budget: int | None = None
    """Of a micro-batch; None: what suits the device."""
    _lock: Lock = field(default_factory=Lock, compare=False)

    @classmethod
    def open(
        cls,
        model: str,
        *,
        revision: str | None = None,
        recipe: str = "auto",
        instruct: str | None = None,
        positive_label: int | str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        limits: str | Mapping[str, Any] = "none",
        trust_remote_code: bool = False,
        max_batch_tokens: int | None = None,
    ) -> Reranker:
        """Load a model, with the checks of a job. The arguments are keys of a job's `model` section.

        `limits` names a limits profile, or has keys of a job's `limits` section; the profile is then `none` unless
        the keys name one.

        Raises:
            ConfigError: An argument is wrong, or the limits cannot be met.
            ModelError: The model cannot be used; says what was seen and what to do.
        """
        asked: dict[str, Any] = {
            "name": model,
            "revision": revision,
            "recipe": recipe,
            "instruct": instruct,
            "positive_label": positive_label,
            "dtype": dtype,
        }
        asked |= {"device": device, "trust_remote_code": trust_remote_code}
        config = checked(ModelConfig, asked, "The model's settings are wrong")
        return cls._opened(config, _checked_limits(limits), _checked_budget(max_batch_tokens))

    @classmethod
    def _opened(cls, config: ModelConfig, asked: LimitsConfig, token_budget: int | None) -> Reranker:
        backend = LocalModel.open(config, hashed=False, copy_folder=copy_folder)
        encoder = backend.load_encoder()
        limits = limits_of(asked, encoder, token_budget=token_budget)
        where = Where(
            device_here(backend.resources), max_pair_tokens=limits.max_pair_tokens, max_batch_tokens=token_budget
        )
        return cls.loaded(backend, encoder, limits, where)

    @classmethod
    def loaded(cls, backend: ScoringBackend, encoder: PairEncoder, limits: RequestLimits, where: Where) -> Reranker:
        """The model of a backend in memory, on a device of this machine.

        Raises:
            ModelError: The model cannot be used.
        """
        scorer = backend.load_scorer(where)
        if (caution := backend.caution(where.device)) is not None:
            logger.warning(caution)
        return cls(backend, encoder, scorer, limits, where.max_batch_tokens)

    def __repr__(self) -> str:
        return f"Reranker(recipe={self.backend.description.recipe!r}, limits={self.limits!r})"

    def rerank(self, query: str, documents: Iterable[str], *, top_n: int | None = None) -> list[Result]:
        """The documents by relevance, highest first; the first `top_n` where it is given.

        Raises:
            ConfigError: The query or a document is not text, or `top_n` is not a positive number.
            RowError: A document cannot be scored; names its place.
        """
        texts = _texts(documents, "documents")
        rows = _unit_rows([_text(query, "query")], texts, np.zeros(len(texts), dtype=np.int64))
        settings = ResultSettings(
            "pairs", checked_top_n(top_n), False, self.backend.activation, (), self.limits.long_documents
        )
        finished = self.rerank_unit(memory_unit("documents", len(texts)), rows, settings)
        _refuse_dead_letters(finished.dead_letters, "documents")
        columns = ["index", "relevance_score", "logit", "rank", "truncated"]
        results = [Result(document=texts[row["index"]], **row) for row in finished.part.select(columns).to_pylist()]
        if not settings.has_chunks:
            return results
        starts, ends = (finished.part[name].to_pylist() for name in ("best_chunk_start", "best_chunk_end"))
        return [replace(result, chunk=(start, end)) for result, start, end in zip(results, starts, ends, strict=True)]

    def score(self, pairs: Iterable[tuple[str, str]]) -> FloatArray:
        """Float32 logits of (query, document) pairs, in their order.

        Raises:
            ConfigError: A pair is not two texts; names its place.
            RowError: A pair cannot be scored; names its place.
        """
        listed = [_pair(pair, f"pairs[{at}]") for at, pair in enumerate(_in_order(pairs, "pairs", "pairs"))]
        rows = _unit_rows(
            [query for query, _ in listed], [document for _, document in listed], np.arange(len(listed), dtype=np.int64)
        )
        scored = self._scored(memory_unit("pairs", len(listed)), rows, keep_documents=False)
        _refuse_dead_letters(separate_non_finite(scored).dead_letters, "pairs")
        return scored.logits

    def relevance(self, logits: FloatArray) -> FloatArray:
        """Relevance scores of logits, 0 to 1, in the same order."""
        return self.backend.activation.scores(np.asarray(logits, dtype=np.float32))

    def rerank_unit(self, unit: WorkUnit, rows: UnitRows, settings: ResultSettings) -> FinishedUnit:
        """Take rows through the steps of a job."""
        return finish_unit(self._scored(unit, rows, keep_documents=settings.return_documents), settings)

    def _scored(self, unit: WorkUnit, rows: UnitRows, *, keep_documents: bool) -> ScoredUnit:
        with self._lock:
            prepared = prepare_unit(unit, rows, self.encoder, self.limits, keep_documents=keep_documents)
            return score_unit(prepared, self.scorer)


@dataclass(frozen=True)
class ModelToLoad:
    """What other processes need to have the model of a `Reranker` too."""

    backend: ScoringBackend
    limits: RequestLimits
    token_budget: int | None = None


def model_to_load(model: str | Reranker) -> ModelToLoad:
    """The settings of a reranker, or those that `Reranker.open` gives a model of this name.

    Raises:
        ConfigError, ModelError: As `Reranker.open`.
    """
    if isinstance(model, Reranker):
        return ModelToLoad(model.backend, model.limits, model.token_budget)
    config = checked(ModelConfig, {"name": model}, "The model's settings are wrong")
    backend = LocalModel.open(config, copy_folder=copy_folder)
    return ModelToLoad(backend, limits_of(_checked_limits("none"), backend.load_encoder(), token_budget=None))


def memory_unit(name: str, num_rows: int) -> WorkUnit:
    """Rows that no file has; `name` stands in messages and in derived ids."""
    return WorkUnit(unit_id_of(0, 0), (Span(0, name, 0, num_rows, FileIdentity(0, None, "")),), num_rows)


def checked_top_n(top_n: int | None) -> int | None:
    """`top_n` as a plain number.

    Raises:
        ConfigError: It is neither None nor a positive whole number.
    """
    if top_n is None:
        return None
    if isinstance(top_n, Integral) and not isinstance(top_n, bool) and top_n >= 1:
        return int(top_n)
    raise ConfigError(f"top_n={top_n!r} is not a positive whole number. Leave it out to keep all documents.")


def _checked_limits(limits: str | Mapping[str, Any]) -> LimitsConfig:
    values = {"profile": "none", **limits} if isinstance(limits, Mapping) else {"profile": limits}
    return checked(LimitsConfig, values, "The limits are wrong")


def _checked_budget(budget: int | None) -> int | None:
    values = {} if budget is None else {"max_batch_tokens": budget}
    return checked(BatchingConfig, values, "The token budget is wrong").token_budget


def _in_order(values: object, name: str, what: str) -> list[object]:
    """Elements that have places; those of a text, a set or a mapping have none that results could name."""
    if isinstance(values, str | set | frozenset | Mapping) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} is {type(values).__name__}, a list of {what} is expected.")
    return [*values]


def _texts(values: Iterable[str], name: str) -> list[str]:
    return [_text(value, f"{name}[{at}]") for at, value in enumerate(_in_order(values, name, "texts"))]


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        seen = "None" if value is None else type(value).__name__
        raise ConfigError(f"{place} is {seen}, a text is expected. Leave out what has no text, or give ''.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{place} is not valid text: it has characters that UTF-8 cannot hold.") from None
    return value


def _pair(pair: object, place: str) -> tuple[str, str]:
    if (
        isinstance(pair, str | set | frozenset | Mapping)
        or not isinstance(pair, Iterable)
        or len(texts := [*pair]) != 2
    ):
        raise ConfigError(f"{place} is not a pair: a query and a document are expected.")
    return _text(texts[0], f"{place}, the query,"), _text(texts[1], f"{place}, the document,")


def _unit_rows(queries: list[str], documents: list[str], query_at: LongArray) -> UnitRows:
    places = np.arange(len(documents), dtype=np.int64)
    ids = pa.array([""] * len(documents), pa.large_string())
    candidates = {
        "query_at": pa.array(query_at),
        "row": pa.array(query_at),
        "index": pa.array(places.astype(np.int32)),
        "doc_id": ids,
        "document": pa.array(documents, pa.large_string()),
    }
    asked = {
        "row": pa.array(np.arange(len(queries), dtype=np.int64)),
        "query_id": pa.array([""] * len(queries), pa.large_string()),
        "query": pa.array(queries, pa.large_string()),
    }
    return UnitRows(pa.table(asked), pa.table(candidates), DEAD_LETTER_PLACES.empty_table())


def _refuse_dead_letters(dead_letters: pa.Table, name: str) -> None:
    """A caller who asked for a score of each gets all of them or an error."""
    if len(dead_letters):
        first = dead_letters.slice(0, 1).to_pylist()[0]
        raise RowError(
            f"{name}[{first['index']}] cannot be scored. {first['message']}", reason_code=first["reason_code"]
        )
