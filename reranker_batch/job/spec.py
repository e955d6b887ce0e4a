"""What a process that works for a run has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from reranker_batch.config import InputConfig, ModelConfig
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder, PairScorer
from reranker_batch.model.files import ModelFiles, resolve_model
from reranker_batch.model.recipes import Recipe
from reranker_batch.pipeline import ResultSettings
from reranker_batch.storage.columns import InputColumns
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.lock import LockTicket

if TYPE_CHECKING:
    from reranker_batch.model.tokenizing import ModelPairEncoder


@dataclass(frozen=True)
class WorkerSpec:
    """The same for every unit and every process; small, and without secrets."""

    input_root: str
    input: InputConfig
    columns: InputColumns
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

    def load_encoder(self) -> PairEncoder:
        return _load_encoder(self.model, self.recipe)

    def load_scorer(self) -> PairScorer:
        # The steps run this module in many processes, which need not all pay for importing torch.
        from reranker_batch.model.checks import start_scorer
        from reranker_batch.model.loading import use_threads

        use_threads(self.threads)
        return start_scorer(
            model_files(self.model).folder,
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

        return load_scorer(
            model_files(self.model).folder,
            _load_encoder(self.model, self.recipe),
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


@lru_cache(maxsize=2)
def _load_encoder(model: ModelConfig, recipe: Recipe) -> ModelPairEncoder:
    """Once a process: Ray runs many tasks in one."""
    from reranker_batch.model.tokenizing import load_pair_encoder

    folder = model_files(model, with_weights=False).folder
    return load_pair_encoder(folder, recipe=recipe, trust_remote_code=model.trust_remote_code)
