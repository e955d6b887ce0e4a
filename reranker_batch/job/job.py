"""A config made concrete: what is read, with which model, within which limits. Loads no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder
from reranker_batch.job.engine import Replicas
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.model.opening import open_model
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.source.files import ModelFiles
from reranker_batch.pipeline import ResultSettings
from reranker_batch.schema import SCHEMA_VERSION
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.places import check_access, refuse_overlap


@dataclass(frozen=True)
class Job:
    """The checked parts of a job, before any device is known."""

    config: JobConfig
    files: ModelFiles
    recipe: Recipe
    encoder: PairEncoder
    limits: RequestLimits
    plan: InputPlan
    recipe_reason: str = ""
    """Why this recipe, for the manifest."""

    @cached_property
    def model_hashes(self) -> Mapping[str, str]:
        """sha256 of the model's files, taken once: settings, replicas and manifest name the same files."""
        return self.files.hashes()

    @property
    def results(self) -> ResultSettings:
        return ResultSettings(
            layout=self.config.output.layout,
            top_n=self.config.ranking.top_n,
            return_documents=self.config.ranking.return_documents,
            logit_shift=self.recipe.logit_shift,
            passthrough=tuple(self.config.input.columns.passthrough),
        )

    def settings(self, *, dtype: str) -> dict[str, Any]:
        """Every setting that can change an output value; paths, replicas and budgets are not among them."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {
                "name": self.config.model.name,
                "revision": self.files.revision,
                "files": dict(self.model_hashes),
                "dtype": dtype,
                "instruct": self.recipe.resolved_instruct,
            },
            "recipe": {
                "name": self.recipe.name,
                "version": self.recipe.version,
                "activation": Activation(shift=self.recipe.logit_shift).to_dict(),
            },
            "limits": asdict(self.limits),
            "input": {"layout": self.config.input.layout, "columns": self.config.input.columns.model_dump()},
            "ranking": self.config.ranking.model_dump(),
            "output": {"layout": self.config.output.layout},
        }

    def spec(self, replicas: Replicas, *, dtype: str, fingerprint: str) -> WorkerSpec:
        asked_budget = self.config.batching.max_batch_tokens
        return WorkerSpec(
            source=self.plan.source,
            model=self.config.model.model_copy(update={"revision": self.files.revision}),
            recipe=self.recipe,
            device=replicas.device,
            dtype=dtype,
            threads=replicas.threads,
            max_batch_tokens=None if asked_budget == "auto" else asked_budget,
            limits=self.limits,
            results=self.results,
            output=Folder.at(self.config.output.path),
            fingerprint=fingerprint,
            model_hashes=self.model_hashes,
        )

    def resolve_dtype(self, device: str) -> str:
        if self.config.model.dtype != "auto":
            return self.config.model.dtype
        return "bfloat16" if device == "cuda" else "float32"


def open_job(config: JobConfig, *, with_weights: bool = True) -> Job:
    """Check the model's files, the limits and the whole input.

    Raises:
        ConfigError, InputError, ModelError: Something cannot be used; nothing was started.
    """
    refuse_overlap(config.input.path, config.output.path)
    check_access(config.input.path, config.output.path)
    budget = config.batching.max_batch_tokens
    opened = open_model(
        config.model, config.limits, max_batch_tokens=None if budget == "auto" else budget, with_weights=with_weights
    )
    plan = plan_input(config.input, unit_pairs=config.runtime.unit_pairs)
    return Job(config, opened.files, opened.recipe, opened.encoder, opened.limits, plan, opened.recipe_reason)
