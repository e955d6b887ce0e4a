"""The sections of a job's settings: keys, types, defaults and what each is for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from reranker_batch.schema import RESERVED_NAMES
from reranker_batch.uris import is_uri, problem_of

_LARGEST = 2**31 - 1
_LONGEST_S = 1e8


def _is_a_place(text: str) -> str:
    """A path, or a URI without secrets. The message never shows a URI that is refused."""
    if not text.strip():
        raise ValueError("this is empty; give a path or a URI")
    if is_uri(text) and (problem := problem_of(text)) is not None:
        raise ValueError(problem.rstrip("."))
    return text


Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Positive = Annotated[int, Field(ge=1, le=_LARGEST)]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False, strict=False)]
Auto = Literal["auto"]
Name = Annotated[str, Field(min_length=1)]
Place = Annotated[str, AfterValidator(_is_a_place)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """No file, column or model can have such a name."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and re.search("[\0\ud800-\udfff]", text):
                raise ValueError(f"{text!r} is not valid text: it has a NUL or bytes that are not UTF-8")
        return value


class Columns(Section):
    """Names of the columns in the input."""

    query_id: Name | None = Field("query_id", description="optional; an id is derived from the place in the input")
    query: Name = "query"
    candidates: Name = Field("candidates", description="nested: list of structs, or list of texts")
    doc_id: Name | None = Field("doc_id", description="struct field, pair column, or a list beside a list of texts")
    document: Name = Field("text", description="struct field or pair column with the text")
    passthrough: list[Name] = Field(default_factory=list, description="further columns or struct fields to carry")

    @field_validator("passthrough")
    @classmethod
    def _names_are_free(cls, names: list[str]) -> list[str]:
        if taken := sorted(set(names) & RESERVED_NAMES):
            raise ValueError(f"{', '.join(taken)}: a column of the output has this name; rename it in the input")
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        return names


class InputConfig(Section):
    path: Place = Field(description="file, folder, glob or URI; builtin:demo is the table that ships with the package")
    layout: Literal["nested", "pairs"] = "nested"
    columns: Columns = Field(default_factory=Columns)
    skip_bad_files: bool = Field(False, description="leave files that cannot be used out, and name them in the report")
    check_pages: bool = Field(False, description="read all pages before anything starts, to find damaged files then")


class ModelConfig(Section):
    name: Place = Field(description="hub id, local folder, or builtin:mini")
    revision: Name | None = None
    recipe: str = Field("auto", description="auto, or a name that `reranker-batch recipes` lists")
    instruct: str | None = Field(
        None, description="a text, qa_retrieval or semantic_similarity, where the model takes one"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    trust_remote_code: bool = False
    precision_sample: Count = Field(
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
    path: Place
    layout: Literal["pairs", "nested"] = "pairs"
    max_failed: Count | str = Field(0, description="dead letters tolerated: a count, or 0.1%")

    @field_validator("max_failed")
    @classmethod
    def _is_share(cls, value: int | str) -> int | str:
        if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?%", value):
            raise ValueError(f"{value!r} is neither a count nor a share like '0.1%'")
        return value


class BatchingConfig(Section):
    max_batch_tokens: Positive | Auto = "auto"


class RuntimeConfig(Section):
    engine: Literal["auto", "ray", "local"] = Field(
        "auto",
        description="local: on this machine without Ray | ray | auto: Ray where one is named, runs already, or pays",
    )
    ray_address: Place | None = Field(
        None, description="null: a local Ray, or the cluster of a submitted job | auto | host:port"
    )
    min_replicas: Positive = 1
    max_replicas: Positive | Auto = "auto"
    gpus_per_replica: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)] | Auto = "auto"
    unit_pairs: Positive | Auto = "auto"
    start_timeout_s: Seconds = Field(
        1800.0,
        description="seconds that Ray may take to start replicas: to find nodes and GPUs and to load the model",
    )
    no_progress_timeout_s: Seconds = Field(
        600.0, description="a replica that has work and reports no progress for this long has failed"
    )

    @model_validator(mode="after")
    def _engine_can_do_it(self) -> RuntimeConfig:
        if self.engine == "local" and self.min_replicas > 1:
            raise ValueError(f"engine=local has one replica, min_replicas={self.min_replicas} asks for more")
        if self.engine == "local" and self.ray_address is not None:
            raise ValueError(f"engine=local uses no Ray, ray_address={self.ray_address!r} names one")
        return self

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> RuntimeConfig:
        if self.max_replicas != "auto" and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}")
        return self
