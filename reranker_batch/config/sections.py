"""The sections of a job's settings: keys, types, defaults and what each is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from reranker_batch.config.columns import ColumnsConfig
from reranker_batch.config.section import LARGEST, Name, Section
from reranker_batch.uris import is_uri, latest_folder, problem_of

_LONGEST_S = 1e8


def _is_a_place(text: str) -> str:
    """A path, or a URI without secrets. The message never shows a URI that is refused."""
    if not text.strip():
        raise ValueError("this is empty; give a path or a URI")
    if is_uri(text) and (problem := problem_of(text)) is not None:
        raise ValueError(problem.rstrip("."))
    return text


def _is_an_output(text: str) -> str:
    """A place, or `latest:` and a place."""
    folder = latest_folder(text)
    _is_a_place(text if folder is None else folder)
    return text


def is_share(text: str) -> bool:
    """Whether this is a share such as `0.1%`."""
    return re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?%", text) is not None


Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False, strict=False)]
Auto = Literal["auto"]
Named = Literal[
    "msmarco-top1000",
    "tevatron",
    "rankllm",
    "flagembedding",
    "mteb-old",
    "triplets",
    "n-tuples",
    "labelled-lists",
    "labelled-pairs",
    "cross-encoder",
    "parallel-lists",
    "beir",
    "mteb",
    "trec",
]
"""Formats whose columns are known."""
Place = Annotated[str, AfterValidator(_is_a_place)]
EarlierOutput = Annotated[str, AfterValidator(_is_an_output)]


class InputConfig(Section):
    """The table that is read."""

    path: Place = Field(
        description="File, folder, glob or URI (s3://, gs://, abfss://, hf://) of Parquet, JSONL, CSV or TSV; the "
        "last three may be compressed (.gz, .zst). builtin:demo is the small table that ships with the package."
    )
    format: Auto | Named = Field(
        "auto",
        description="Names a layout that search and training tools write, in place of `layout` and `columns`; what "
        "is set in `columns` counts before it. auto: the columns as they are set; where none is set and the default "
        "ones are missing, the one format that fits the columns of the input.",
    )
    layout: Literal["nested", "pairs"] = Field(
        "nested",
        description="nested: a row is a query with a list of candidates. pairs: a row is a query and one document.",
    )
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    skip_bad_files: bool = Field(
        False,
        description="Leave out files that cannot be used, and list them in the report. With false, they stop the job "
        "before it starts.",
    )
    check_pages: bool = Field(
        False,
        description="Read every page of the input before the job starts, so that damaged pages are found then. This "
        "costs as much time as reading the whole input.",
    )


class ModelConfig(Section):
    """The model and how it is computed."""

    name: Place = Field(
        description="Hub id, local folder, URI of a folder (s3://, gs://, abfss://), or builtin:mini, the small model "
        "that ships with the package."
    )
    revision: Name | None = Field(
        None, description="Commit hash, tag or branch of a hub model. null is the newest commit of the main branch."
    )
    recipe: str = Field(
        "auto",
        description="Model family: how a pair becomes tokens and a score. auto recognises it from the model's files; "
        "`reranker-batch recipes` lists the names.",
    )
    instruct: str | None = Field(
        None,
        description="Instruction for models that take one: a text, or the name qa_retrieval or semantic_similarity. "
        "null is the default of the family.",
    )
    positive_label: Count | Name | None = Field(
        None,
        description="For a model whose head has two labels: the index or the name of the one that means relevant. The "
        "logit is then its own less the other's. null is for a head with one label.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of the model. auto is float32 on a CPU and bfloat16 on a GPU."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cuda uses GPUs and waits for them, cpu uses none. auto uses GPUs where there are any."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run Python code from the model's repository. Set `model.revision` to a commit you have read.",
    )
    precision_sample: Count = Field(
        256,
        description="Number of pairs to score a second time, in float32 and one at a time; the report states the "
        "difference. 0 switches it off.",
    )


class LimitsConfig(Section):
    """Limits of a rerank service, applied to every query: texts are cut, candidates are split into requests."""

    profile: str = Field(
        "gte-rerank-v2",
        description="Named set of limits; `reranker-batch profiles` lists them. none: the model's maximum is the only "
        "limit. The keys below override single values of the profile.",
    )
    max_documents: Positive | None = Field(
        None, description="Maximum number of documents in a request. null: the profile's value."
    )
    max_item_tokens: Positive | None = Field(
        None,
        description="Maximum tokens of a query or a document; longer texts are cut. null: the profile's value.",
    )
    max_request_tokens: Positive | None = Field(
        None, description="Maximum tokens of a request. null: the profile's value."
    )
    request_formula: Literal["query_once", "query_per_document"] | None = Field(
        None,
        description="How the tokens of a request are counted: the query once, or the query again for each document. "
        "null: the profile's value.",
    )
    max_pair_tokens: Positive | None = Field(
        None,
        description="Maximum tokens of a model input, special tokens included; a longer pair is cut. null, or a value "
        "above the model's own maximum: that maximum. Of a listwise model, the tokens that it reads at once.",
    )
    long_documents: Literal["truncate", "max_chunk"] = Field(
        "truncate",
        description="What becomes of a document that is longer than the model reads with its query. truncate: its "
        "beginning is scored. max_chunk: up to 8 overlapping chunks are scored, and the best logit counts.",
    )

    def overrides(self) -> dict[str, int | str | None]:
        return self.model_dump(exclude={"profile"})


class RankingConfig(Section):
    """What is kept of each query."""

    top_n: Positive | None = Field(None, description="Candidates to keep of each query, best first. null keeps all.")
    return_documents: bool = Field(False, description="Write the text of each document to the output.")


class OutputConfig(Section):
    """Where the result goes."""

    path: Place = Field(
        description="Folder or URI (s3://, gs://, abfss://) of the result: new, or the output of an earlier attempt at "
        "the same job, which is then resumed."
    )
    layout: Literal["pairs", "nested"] = Field(
        "pairs", description="pairs: a row per candidate. nested: a row per query with the list of its results."
    )
    max_failed: Count | str = Field(
        0,
        description="How many candidates may fail (dead letters): a number, or a share of all candidates such as 0.1%. "
        "With more, the run ends with exit code 3 and writes no _SUCCESS.",
    )

    memo: bool = Field(
        True,
        description="Keep the score of every pair in memo/, about 25 bytes each, so that a later run can reuse it. An "
        "output that was begun keeps to what it was begun with.",
    )

    @field_validator("max_failed")
    @classmethod
    def _is_share(cls, value: int | str) -> int | str:
        if isinstance(value, str) and not is_share(value):
            raise ValueError(f"{value!r} is neither a count nor a share like '0.1%'")
        return value


if TYPE_CHECKING:
    _From = Section
else:  # the key is a word of Python, which a class body cannot declare
    _From = create_model(
        "_From",
        __base__=Section,
        **{
            "from": (
                EarlierOutput | None,
                Field(
                    None,
                    description="An earlier output: pairs of texts that it has scored with the same settings are not "
                    "scored again. latest:FOLDER is the newest complete output in FOLDER. null: score all pairs.",
                ),
            )
        },
    )


class ReuseConfig(_From):
    """Scores of an earlier output."""

    verify_sample: Count = Field(
        256,
        description="Number of reused pairs that are scored again before anything is published. If they differ, all "
        "pairs are scored. 0 switches this off.",
    )
    max_logit_difference: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)] | Auto = Field(
        "auto",
        description="How far the logits of these pairs may differ. auto: 1e-4 in float32, 3 % of the standard "
        "deviation of their logits in half precision.",
    )
    max_age_nights: Positive | None = Field(
        None,
        description="How many runs in a row may reuse a score before the pair is scored again. null: any number.",
    )
    required: bool = Field(
        False,
        description="End with exit code 2 where the earlier output cannot be used. With false, all pairs are scored.",
    )

    @property
    def source(self) -> str | None:
        """The key `from`."""
        source: str | None = getattr(self, "from")
        return source


class BatchingConfig(Section):
    """How pairs are grouped for the model."""

    max_batch_tokens: Positive | Auto = Field(
        "auto",
        description="Maximum tokens of a micro-batch. auto is 4,096 on a CPU, and what fits into the memory of a GPU.",
    )

    @property
    def token_budget(self) -> int | None:
        """None where the device decides."""
        return None if self.max_batch_tokens == "auto" else self.max_batch_tokens


class RuntimeConfig(Section):
    """What runs the job, and with how much of the machine or the cluster."""

    engine: Literal["auto", "ray", "local"] = Field(
        "auto",
        description="local: this machine, without Ray. ray: Ray, on this machine or a cluster. auto: ray where a Ray "
        "is named or in use, several replicas are asked for, or one would need more than about a minute; else local.",
    )
    ray_address: Place | None = Field(
        None,
        description="Ray cluster to join: auto (the one this machine belongs to), host:port, or local (a Ray of "
        "its own). null: the cluster that "
        "the job was submitted to, else a Ray that is started on this machine and stopped at the end.",
    )
    min_replicas: Positive = Field(
        1, description="Number of copies of the model (replicas) that must fit before the run starts."
    )
    max_replicas: Positive | Auto = Field(
        "auto", description="Maximum number of replicas. auto: as many as the GPUs or CPUs hold."
    )
    gpus_per_replica: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)] | Auto = Field(
        "auto", description="GPUs of a replica; 0.5 puts two on a GPU, 0 uses CPUs. auto is 1 on GPUs and 0 on CPUs."
    )
    unit_pairs: Positive | Auto = Field(
        "auto",
        description="Pairs of a work unit, roughly; a unit is scored, published and retried as a whole. auto is a 32nd "
        "of the input, but at least 1,024 and at most 16,384 pairs.",
    )
    start_timeout_s: Seconds = Field(
        1800.0,
        description="Seconds that the replicas may take to start: to find nodes and GPUs and to load the model.",
    )
    no_progress_timeout_s: Seconds = Field(
        600.0,
        description="Seconds that a replica with work may be silent before the run ends with an error.",
    )

    @field_validator("gpus_per_replica")
    @classmethod
    def _can_be_given_out(cls, gpus: float | Auto) -> float | Auto:
        if gpus != "auto" and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is not possible: above 1 it is a whole number, as Ray gives GPUs out")
        return gpus

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
