"""A config made concrete: what is read, with which model, within which limits. Loads no weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reranker_batch.config import InputConfig, JobConfig, RuntimeConfig
from reranker_batch.core.backend import Device, ScoringBackend, Where
from reranker_batch.core.chunks import CHUNKS_VERSION
from reranker_batch.core.fingerprint import Settings
from reranker_batch.core.limits import RequestLimits, limits_of
from reranker_batch.core.pairs import CUTTING_VERSION
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.job.cluster import stays_here
from reranker_batch.job.engine import Replicas
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.model.local import LocalModel
from reranker_batch.model.source.devices import has_gpu
from reranker_batch.pipeline import ResultSettings
from reranker_batch.preparing.ready import look_at_input, ready_input
from reranker_batch.preparing.table.source import Look
from reranker_batch.schema import SCHEMA_VERSION
from reranker_batch.storage.files.fetching import copy_folder
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import check_access, overlap, refuse_overlap
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.uris import latest_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The checked parts of a job. The device is the engine's choice among `devices`."""

    config: JobConfig
    backend: ScoringBackend
    limits: RequestLimits
    plan: InputPlan

    @property
    def devices(self) -> list[Device]:
        return devices_for(self.backend, self.config.runtime)

    @property
    def results(self) -> ResultSettings:
        return ResultSettings(
            layout=self.config.output.layout,
            top_n=self.config.ranking.top_n,
            return_documents=self.config.ranking.return_documents,
            activation=self.backend.activation,
            passthrough=tuple(self.plan.source.reading.columns.passthrough),
            long_documents=self.limits.long_documents,
        )

    def settings(self, device: Device) -> Settings:
        """Every setting that can change an output value."""
        limits, results = self.limits, self.results
        requests = {
            "max_documents": limits.max_documents,
            "max_request_tokens": limits.max_request_tokens,
            "request_formula": limits.request_formula,
        }
        return Settings(
            scoring={
                "version": CUTTING_VERSION,
                **self.backend.identity(device),
                "requests": requests if limits.is_listwise else None,
                "limits": {
                    "max_item_tokens": limits.max_item_tokens,
                    "max_pair_tokens": limits.max_pair_tokens,
                    "long_documents": limits.long_documents,
                    "chunks_version": CHUNKS_VERSION if limits.long_documents == "max_chunk" else None,
                },
            },
            limits=requests,
            output={
                "schema_version": SCHEMA_VERSION,
                "layout": results.layout,
                "top_n": results.top_n,
                "return_documents": results.return_documents,
                "has_chunks": results.has_chunks,
                "activation": results.activation.to_dict(),
                "input": self.plan.source.reading.model_dump(),
            },
        )

    def spec(self, replicas: Replicas) -> WorkerSpec:
        settings = self.settings(replicas.device)
        return WorkerSpec(
            source=self.plan.source,
            backend=self.backend,
            where=Where(
                replicas.device, replicas.threads, self.limits.max_pair_tokens, self.config.batching.token_budget
            ),
            limits=self.limits,
            results=self.results,
            output=Folder.at(self.config.output.path),
            fingerprint=settings.fingerprint,
            scoring_fingerprint=settings.scoring_fingerprint,
            memo=self.config.output.memo,
        )


def devices_for(backend: ScoringBackend, runtime: RuntimeConfig) -> list[Device]:
    """What the backend may be placed on, as far as `runtime.gpus_per_replica` leaves it open; best first."""
    gpus = runtime.gpus_per_replica
    return [device for device in backend.resources if gpus == "auto" or (device == "cuda") == (gpus > 0)]


def _require_gpu(devices: Sequence[Device], config: JobConfig) -> None:
    """GPUs that are asked for exist, where that can be known before a cluster is joined."""
    if "cpu" in devices or not stays_here(config.runtime) or has_gpu():
        return
    gpus = config.runtime.gpus_per_replica
    asked = "model.device=cuda" if config.model.device == "cuda" else f"runtime.gpus_per_replica={gpus:g}"
    raise ConfigError(
        f"{asked}, but torch sees no GPU on this machine, where the job runs. Set model.device: cpu and "
        "runtime.gpus_per_replica: auto, or runtime.ray_address to a cluster that has GPUs."
    )


def _earlier_places(config: JobConfig) -> list[str]:
    """Where `reuse.from` leads.

    Raises:
        ConfigError: To the output itself, or to a folder inside it or around it.
    """
    source, output = config.reuse.source, config.output.path
    if source is None:
        return []
    if (folder := latest_folder(source)) is not None:
        return [folder]
    if overlap(source, output):
        raise ConfigError(f"reuse.from={source} is output.path={output} or lies around or in it. Name another output.")
    return [source]


OpenedModel = tuple[LocalModel, RequestLimits]


def open_job(
    config: JobConfig, *, with_weights: bool = True, opened: OpenedModel | None = None, look: Look | None = None
) -> Job:
    """Check the model's files, the device, the limits and the whole input, but for what has been looked at before.

    An input that is converted first has to be ready.

    Raises:
        ConfigError, InputError, ModelError: Something cannot be used; nothing was started.
    """
    backend, limits = opened or open_model(config, with_weights=with_weights)
    look = look or look_at_input(config)
    return Job(look.known(config), backend, limits, plan_of(config, look, ready_input(config, look)))


def plan_of(config: JobConfig, look: Look, ready: InputConfig) -> InputPlan:
    """The units of an input that is ready.

    Raises:
        ConfigError, InputError: It cannot be used; where columns are missing, the message says which may be meant.
    """
    is_reuse = config.reuse.source is not None
    try:
        plan = plan_input(ready, unit_pairs=config.runtime.unit_pairs, is_reuse=is_reuse)
    except InputError as error:
        raise InputError(f"{error}{look.hint}") from None
    for note in look.notes:
        logger.warning("%s", note)
    return replace(plan, warnings=(*look.notes, *plan.warnings))


def open_model(config: JobConfig, *, with_weights: bool = True) -> OpenedModel:
    """Check the places, the model's files, the device and the limits: all but the input itself.

    Raises:
        ConfigError, ModelError: Something cannot be used; nothing was started.
    """
    if not config.prepare.is_wanted:
        refuse_overlap(config.input.path, config.output.path)
    check_access(config.input.path, config.output.path, config.model.name, *_earlier_places(config))
    backend = LocalModel.open(config.model, with_weights=with_weights, copy_folder=copy_folder)
    _require_gpu(devices_for(backend, config.runtime), config)
    return backend, limits_of(config.limits, backend.load_encoder(), token_budget=config.batching.token_budget)
