"""A model in files, of this machine or of the hub, run by torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from reranker_batch.config import ModelConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.backend import Description, Device, Where
from reranker_batch.core.copies import CopyFolder
from reranker_batch.core.pairs import PairScorer
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder, load_pair_encoder
from reranker_batch.model.recipes import Recipe, choose_recipe
from reranker_batch.model.source.devices import devices_of, precision_on
from reranker_batch.model.source.files import ModelFiles, resolve_model
from reranker_batch.uris import is_uri


@dataclass(frozen=True)
class LocalModel:
    """See `ScoringBackend`. Build it with `LocalModel.open`."""

    config: ModelConfig
    """The revision of a hub model is its commit, that of a model in a store the state of its files."""
    recipe: Recipe
    reason: str
    """Why this recipe."""
    hashes: Mapping[str, str] | None = None
    """sha256 of the model's files: no process loads others. None compares nothing."""
    copy_folder: CopyFolder | None = None
    """Gets a model that lies in a store."""

    @classmethod
    def open(
        cls,
        config: ModelConfig,
        *,
        with_weights: bool = True,
        hashed: bool = True,
        copy_folder: CopyFolder | None = None,
    ) -> LocalModel:
        """Find the files and choose the recipe; a hub model is downloaded, one in a store is copied.

        Raises:
            ModelError: The model cannot be used as asked.
        """
        _refuse_revision(config)
        files = _resolved(config, copy_folder, with_weights=with_weights)
        detected = choose_recipe(
            files.folder,
            files.config(),
            model=files.name,
            name=config.recipe,
            instruct=config.instruct,
            positive=config.positive_label,
        )
        pinned = config.model_copy(update={"revision": files.revision})
        hashes = files.hashes(with_weights=with_weights) if hashed else None
        return cls(pinned, detected.recipe, detected.reason, hashes, copy_folder)

    @property
    def activation(self) -> Activation:
        return self.recipe.activation

    @property
    def resources(self) -> tuple[Device, ...]:
        return devices_of(self.config.device)

    @property
    def description(self) -> Description:
        return Description(self.config.name, self.recipe.name, self.reason, self.config.revision)

    def identity(self, device: Device) -> dict[str, Any]:
        """Hashes of the files and how they are read; not their place, so that a model may move."""
        prompt = self.recipe.prompt or self.recipe.list_prompt
        return {
            "model": {
                "files": dict(self.hashes or {}),
                "dtype": precision_on(device, self.config.dtype),
                "trust_remote_code": self.config.trust_remote_code,
            },
            "recipe": {
                "name": self.recipe.name,
                "version": self.recipe.version,
                "instruct": self.recipe.resolved_instruct,
                "positive_label": self.recipe.positive_label,
                "prompt": None if prompt is None else _listed(asdict(prompt)),
            },
        }

    def caution(self, device: Device) -> str | None:
        """By this machine's CPU, which the other nodes of a cluster have too, as a rule."""
        precision = precision_on(device, self.config.dtype)
        if device != "cpu" or precision == "float32":
            return None
        from reranker_batch.model.forward.hardware import cpu_capabilities, slow_precision  # imports torch

        return slow_precision(precision, cpu_capabilities())

    def operations_per_token(self) -> float:
        """Two for each weight that is no embedding (https://arxiv.org/abs/2001.08361, section 2.1)."""
        return 2.0 * _resolved(self.config, self.copy_folder).num_weights()

    def load_encoder(self) -> ModelPairEncoder:
        if self.hashes is None:
            return self._load_encoder()
        return _encoder_of(self.config, self.recipe, tuple(sorted(self.hashes.items())), self.copy_folder)

    def load_scorer(self, where: Where) -> PairScorer:
        # Most processes of a job load an encoder only, and need not all pay for importing torch.
        from reranker_batch.model.checks.start import start_scorer
        from reranker_batch.model.source.loading import use_threads

        use_threads(where.threads)
        with self._planned_files() as files:
            return start_scorer(
                files.folder,
                recipe=self.recipe,
                dtype=precision_on(where.device, self.config.dtype),
                device=where.device,
                longest_pair=where.max_pair_tokens,
                max_batch_tokens=where.max_batch_tokens,
                trust_remote_code=self.config.trust_remote_code,
            )

    def load_exact_scorer(self, where: Where) -> PairScorer | None:
        if precision_on(where.device, self.config.dtype) == "float32":
            return None
        from reranker_batch.model.scorer import load_scorer

        with self._planned_files() as files:
            return load_scorer(
                files.folder,
                self.load_encoder(),
                recipe=self.recipe,
                dtype="float32",
                device=where.device,
                max_batch_tokens=where.max_batch_tokens,
                trust_remote_code=self.config.trust_remote_code,
            )

    def _load_encoder(self) -> ModelPairEncoder:
        with self._planned_files(with_weights=False) as files:
            return load_pair_encoder(files.folder, recipe=self.recipe, trust_remote_code=self.config.trust_remote_code)

    @contextmanager
    def _planned_files(self, *, with_weights: bool = True) -> Iterator[ModelFiles]:
        """The model's files, compared with the hashes before and after they are loaded.

        Raises:
            ModelError: They differ, so that two models would be mixed in one output.
        """
        files = _resolved(self.config, self.copy_folder, with_weights=with_weights)
        if self.hashes is not None:
            files.require(self.hashes, with_weights=with_weights)
        yield files
        if self.hashes is not None:
            files.require(self.hashes, with_weights=with_weights)


def _refuse_revision(config: ModelConfig) -> None:
    if config.revision is not None and is_uri(config.name):
        raise ModelError(
            f"model.revision={config.revision!r} belongs to a hub model, and {config.name} is a folder of a store. "
            "Drop it."
        )


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values as JSON gives them back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _resolved(config: ModelConfig, copy_folder: CopyFolder | None, *, with_weights: bool = True) -> ModelFiles:
    """The files on this machine."""
    return resolve_model(
        config.name,
        revision=config.revision,
        with_weights=with_weights,
        trust_remote_code=config.trust_remote_code,
        copy_folder=copy_folder,
    )


@lru_cache(maxsize=2)
def _encoder_of(
    config: ModelConfig, recipe: Recipe, hashes: tuple[tuple[str, str], ...], copy_folder: CopyFolder | None
) -> ModelPairEncoder:
    """Once a process: Ray runs many tasks in one."""
    return LocalModel(config, recipe, "", dict(hashes), copy_folder)._load_encoder()
