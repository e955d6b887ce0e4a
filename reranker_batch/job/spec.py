"""What a process that works for a run has to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from reranker_batch.config import ModelConfig
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder, PairScorer
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.source.files import ModelFiles, resolve_model
from reranker_batch.pipeline import ResultSettings
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.input.source import InputSource
from reranker_batch.storage.output.lock import LockTicket

if TYPE_CHECKING:
    from reranker_batch.model.encoding.tokenizing import ModelPairEncoder


@dataclass(frozen=True)
class WorkerSpec:
    """The same for every unit and every process; small, and without secrets."""

    source: InputSource
    model: ModelConfig
    recipe: Recipe
    device: str
    dtype: str
    threads: int
    max_batch_tokens: int | None
    """None lets each replica choose for its device."""
    limits: RequestLimits
    results: ResultSettings
    output: Folder
    fingerprint: str
    lock: LockTicket | None = None
    precision_sample: Mapping[str, int] = field(default_factory=dict)
    """How many pairs of which units are scored again in float32."""
    model_hashes: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the model's files when the run was planned: no process may load others."""

    def load_encoder(self) -> PairEncoder:
        return self._encoder()

    def _encoder(self) -> ModelPairEncoder:
        return _load_encoder(self.model, self.recipe, tuple(sorted(self.model_hashes.items())))

    def load_scorer(self) -> PairScorer:
        # The steps run this module in many processes, which need not all pay for importing torch.
        from reranker_batch.model.checks.start import start_scorer
        from reranker_batch.model.source.loading import use_threads

        use_threads(self.threads)
        with _planned_files(self.model, self.model_hashes) as files:
            return start_scorer(
                files.folder,
                recipe=self.recipe,
                dtype=self.dtype,
                device=self.device,
                longest_pair=self.limits.max_pair_tokens,
                max_batch_tokens=self.max_batch_tokens,
                trust_remote_code=self.model.trust_remote_code,
            )

    def load_exact_scorer(self) -> PairScorer:
        """A second copy of the model, in float32 and on the same device."""
        from reranker_batch.model.scorer import load_scorer

        with _planned_files(self.model, self.model_hashes) as files:
            return load_scorer(
                files.folder,
                self._encoder(),
                recipe=self.recipe,
                dtype="float32",
                device=self.device,
                max_batch_tokens=self.max_batch_tokens,
                trust_remote_code=self.model.trust_remote_code,
            )


def model_files(model: ModelConfig, *, with_weights: bool = True) -> ModelFiles:
    """The files of a model on this machine."""
    return resolve_model(
        model.name,
        revision=model.revision,
        with_weights=with_weights,
        trust_remote_code=model.trust_remote_code,
    )


@contextmanager
def _planned_files(model: ModelConfig, hashes: Mapping[str, str], *, with_weights: bool = True) -> Iterator[ModelFiles]:
    """The model's files, compared with those of the plan before and after they are loaded.

    Raises:
        ModelError: They differ, so that two models would be mixed in one output.
    """
    files = model_files(model, with_weights=with_weights)
    files.require(hashes, with_weights=with_weights)
    yield files
    files.require(hashes, with_weights=with_weights)


@lru_cache(maxsize=2)
def _load_encoder(model: ModelConfig, recipe: Recipe, hashes: tuple[tuple[str, str], ...]) -> ModelPairEncoder:
    """Once a process: Ray runs many tasks in one."""
    from reranker_batch.model.encoding.tokenizing import load_pair_encoder

    with _planned_files(model, dict(hashes), with_weights=False) as files:
        return load_pair_encoder(files.folder, recipe=recipe, trust_remote_code=model.trust_remote_code)
