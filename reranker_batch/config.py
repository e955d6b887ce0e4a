"""The settings of a job: one strict model for the YAML file, the command line and the record of a run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reranker_batch.errors import ConfigError
from reranker_batch.schema import RESERVED_NAMES

Positive = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Columns(Section):
    """Names of the columns in the input."""

    query_id: str | None = Field("query_id", description="optional; an id is derived from the place in the input")
    query: str = "query"
    candidates: str = Field("candidates", description="nested: list of structs, or list of texts")
    doc_id: str | None = Field("doc_id", description="struct field, pair column, or a list beside a list of texts")
    document: str = Field("text", description="struct field or pair column with the text")
    passthrough: list[str] = Field(default_factory=list, description="further columns or struct fields to carry")

    @field_validator("passthrough")
    @classmethod
    def _names_are_free(cls, names: list[str]) -> list[str]:
        if taken := sorted(set(names) & RESERVED_NAMES):
            raise ValueError(f"{', '.join(taken)}: a column of the output has this name; rename it in the input")
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        return names


class InputConfig(Section):
    path: str = Field(description="file, folder, glob or URI; builtin:demo is the table that ships with the package")
    layout: Literal["nested", "pairs"] = "nested"
    columns: Columns = Field(default_factory=Columns)
    skip_bad_files: bool = Field(False, description="leave files that cannot be used out, and name them in the report")
    check_pages: bool = Field(False, description="read all pages before anything starts, to find damaged files then")


class ModelConfig(Section):
    name: str = Field(description="hub id, local folder, or builtin:mini")
    revision: str | None = None
    recipe: str = Field("auto", description="auto, or a name that `reranker-batch recipes` lists")
    instruct: str | None = Field(
        None, description="a text, qa_retrieval or semantic_similarity, where the model takes one"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    trust_remote_code: bool = False
    precision_sample: Annotated[int, Field(ge=0)] = Field(
        256, description="pairs of a run scored again in float32, one at a time, for the report; 0 switches it off"
    )


class LimitsConfig(Section):
    profile: str = "gte-rerank-v2"
    max_documents: Positive | None = None
    max_item_tokens: Positive | None = None
    max_request_tokens: Positive | None = None
    request_formula: Literal["query_once", "query_per_document"] | None = None
    max_pair_tokens: Positive | None = None

    def overrides(self) -> dict[str, int | str | None]:
        return self.model_dump(exclude={"profile"})


class RankingConfig(Section):
    top_n: Positive | None = None
    return_documents: bool = False


class OutputConfig(Section):
    path: str
    layout: Literal["pairs", "nested"] = "pairs"
    max_failed: Annotated[int, Field(ge=0)] | str = Field(0, description="dead letters tolerated: a count, or 0.1%")

    @field_validator("max_failed")
    @classmethod
    def _is_share(cls, value: int | str) -> int | str:
        if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?%", value):
            raise ValueError(f"{value!r} is neither a count nor a share like '0.1%'")
        return value


class BatchingConfig(Section):
    max_batch_tokens: Positive | Auto = "auto"


class RuntimeConfig(Section):
    ray_address: str | None = Field(
        None, description="null: a local Ray, or the cluster of a submitted job | auto | host:port"
    )
    min_replicas: Positive = 1
    max_replicas: Positive | Auto = "auto"
    gpus_per_replica: Annotated[float, Field(ge=0, strict=False)] | Auto = "auto"
    unit_pairs: Positive | Auto = "auto"
    start_timeout_s: Annotated[float, Field(gt=0, strict=False)] = Field(
        1800.0,
        description="seconds that Ray may take to start replicas: to find nodes and GPUs and to load the model",
    )
    no_progress_timeout_s: Annotated[float, Field(gt=0, strict=False)] = Field(
        600.0, description="a replica that has work and reports no progress for this long has failed"
    )

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> RuntimeConfig:
        if self.max_replicas != "auto" and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}")
        return self


class JobConfig(Section):
    """All settings of a job.

    Build it from a file with `JobConfig.load`, from plain values with `JobConfig.of`.
    """

    input: InputConfig
    model: ModelConfig
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    ranking: RankingConfig = Field(default_factory=RankingConfig)
    output: OutputConfig
    batching: BatchingConfig = Field(default_factory=BatchingConfig)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    @model_validator(mode="after")
    def _budget_holds_a_pair(self) -> JobConfig:
        budget, pair = self.batching.max_batch_tokens, self.limits.max_pair_tokens
        if budget != "auto" and pair is not None and budget < pair:
            raise ValueError(
                f"batching.max_batch_tokens={budget} is below limits.max_pair_tokens={pair}, so a full-length pair "
                "would never fit. Raise the budget or shorten the pairs"
            )
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> JobConfig:
        """Check plain values.

        Raises:
            ConfigError: With one line for every wrong key or value.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError("The config is wrong:\n" + "\n".join(_lines(error))) from None

    @classmethod
    def load(cls, path: str | Path, *, overrides: Iterable[str] = ()) -> JobConfig:
        """Read a YAML file and apply `table.key=value` overrides; values are read as YAML.

        Raises:
            ConfigError: File missing, not YAML, or a wrong key or value.
        """
        values = _read_yaml(Path(path))
        for override in overrides:
            _apply(values, override)
        return cls.of(values)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Config file {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"Config file {path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"Config file {path} must hold tables such as 'input:' and 'model:'.")
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {override!r} is not of the form table.key=value.")
    *tables, key = name.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {table} is a value, not a table.")
    try:
        values[key] = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML: {error}") from None


def _lines(error: ValidationError) -> Iterable[str]:
    """One line a key; the branches of a union share theirs."""
    found: dict[str, list[str]] = {}
    for detail in error.errors():
        place = [str(part) for part in detail["loc"] if not _is_union_branch(part)]
        found.setdefault(".".join(place), []).append(_complaint(detail, place))
    for name, complaints in found.items():
        yield f"  {name + ': ' if name else ''}{', or '.join(complaints)}"


def _complaint(detail: Any, place: list[str]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key. {_known_keys(place)}"
    if detail["type"] == "missing":
        return "this key is required."
    seen = "" if isinstance(detail["input"], BaseModel | dict) else f" (seen: {detail['input']!r})"
    return str(detail["msg"]).removeprefix("Value error, ") + seen


def _is_union_branch(part: int | str) -> bool:
    """Pydantic names the tried branch of a union in the location: `constrained-int`, `literal['auto']`."""
    return (isinstance(part, str) and not part.isidentifier()) or part in ("int", "str", "float")


def _known_keys(place: list[str]) -> str:
    section: Any = JobConfig
    for part in place[:-1]:
        section = section.model_fields[part].annotation
    known = list(section.model_fields)
    close = difflib.get_close_matches(place[-1], known, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return f"{hint}Known here: {', '.join(known)}."
