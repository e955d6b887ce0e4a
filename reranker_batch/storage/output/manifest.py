"""What the manifest says, for those who read an output later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from reranker_batch.config import Columns, InputConfig
from reranker_batch.core.activation import Activation
from reranker_batch.errors import CommitError
from reranker_batch.storage.documents import REMEDY, typed

Layout = Literal["nested", "pairs"]


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Model(_Read):
    dtype: str


class _Recipe(_Read):
    activation: Activation


class _InputSettings(_Read):
    layout: Layout
    columns: Columns


class _OutputSettings(_Read):
    layout: Layout


class _Ranking(_Read):
    top_n: int | None = Field(ge=1)


class _Settings(_Read):
    model: _Model
    recipe: _Recipe
    input: _InputSettings
    output: _OutputSettings
    ranking: _Ranking


class _Input(_Read):
    files: dict[str, dict[str, Any]] = Field(min_length=1)
    skipped: dict[str, Literal[True]]


class _Config(_Read):
    input: InputConfig


class Manifest(_Read):
    """The recorded settings and input of a run, checked."""

    fingerprint: str
    settings: _Settings
    input: _Input
    units_digest: str
    config: _Config

    @classmethod
    def of(cls, values: Mapping[str, Any], path: str) -> Manifest:
        """Read the values of `run/manifest.json`.

        Raises:
            CommitError: They are not what this program writes, or the config is not that of the settings.
        """
        manifest = typed(_MANIFEST, values, path)
        settings, config = manifest.settings.input, manifest.config.input
        if (settings.layout, settings.columns) != (config.layout, config.columns):
            raise CommitError(f"{path} has been changed: its config.input is not that of its settings. {REMEDY}")
        return manifest


_MANIFEST = TypeAdapter(Manifest)
