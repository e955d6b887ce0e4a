"""What the manifest says, for those who read an output later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from reranker_batch.config import InputConfig, Reading
from reranker_batch.core.activation import Activation
from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.documents import REMEDY, typed

Layout = Literal["nested", "pairs"]


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Output(_Read):
    layout: Layout
    top_n: int | None = Field(ge=1)
    activation: Activation
    has_chunks: bool
    input: Reading


class _Settings(_Read):
    scoring: dict[str, Any]
    limits: dict[str, Any]
    output: _Output


class _Input(_Read):
    files: dict[str, dict[str, Any]] = Field(min_length=1)
    skipped: dict[str, Literal[True]]


class _ConfigOutput(_Read):
    memo: bool


class _Model(_Read):
    name: str
    revision: str | None = None


class _Report(_Read):
    compare_with: str | None = None


class _Run(_Read):
    path: str | None = None


class _Prepare(_Read):
    run: _Run = _Run()


class _Config(_Read):
    input: InputConfig
    prepare: _Prepare = _Prepare()
    model: _Model
    output: _ConfigOutput
    report: _Report = _Report()
    reuse: dict[str, Any] = {}

    @property
    def earlier_output(self) -> Any:
        """As `JobConfig.earlier_output`."""
        return self.report.compare_with or self.reuse.get("from")


class Manifest(_Read):
    """The recorded settings and input of a run, checked."""

    fingerprint: str
    scoring_fingerprint: str
    settings: _Settings
    input: _Input
    units_digest: str
    config: _Config
    compared_with: str | None = None
    """The output that `config.earlier_output` was when the run began."""

    @property
    def reading(self) -> Reading:
        """How the rows of the input were read."""
        return self.settings.output.input

    @property
    def is_listwise(self) -> bool:
        """Whether each score depends on all documents of its request."""
        return self.settings.scoring.get("requests") is not None

    @classmethod
    def of(cls, values: Mapping[str, Any], path: str) -> Manifest:
        """Read the values of `run/manifest.json`.

        Raises:
            CommitError: They are not what this program writes, or settings, fingerprints and config do not agree.
        """
        manifest = typed(_MANIFEST, values, path)
        hashes = fingerprint(values["settings"]), fingerprint(values["settings"]["scoring"])
        if hashes != (manifest.fingerprint, manifest.scoring_fingerprint):
            raise CommitError(f"{path} has been changed: its settings are not those of its fingerprints. {REMEDY}")
        reading, config = manifest.reading, manifest.config.input
        if reading.prepared is None and (reading.layout, reading.columns) != (config.layout, config.columns.plain()):
            raise CommitError(f"{path} has been changed: its config.input is not that of its settings. {REMEDY}")
        return manifest


_MANIFEST = TypeAdapter(Manifest)
