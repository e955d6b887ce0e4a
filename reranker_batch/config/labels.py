"""The settings of `label`: teachers, and how their scores become training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model, field_validator, model_validator

from reranker_batch.config.config_file import ConfigFile
from reranker_batch.config.sections import Auto, Count, InputConfig, Name, Place, Positive, Section
from reranker_batch.schema import RESERVED_NAMES

ExportFormat = Literal[
    "st-pair",
    "st-labeled-pair",
    "st-triplet",
    "st-n-tuple",
    "st-list",
    "flagembedding",
    "ms-swift",
    "tevatron",
    "mteb",
    "trec",
]
PositivesFrom = Literal["qrels", "column", "top1"]
Number = Annotated[float, Field(allow_inf_nan=False, strict=False)]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)]
TeacherName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]


class TeacherConfig(Section):
    """A model whose scores decide: a finished output, or a config that makes one."""

    name: TeacherName = Field(description="Short name: letters, digits, _ and -. A field of the labels has it.")
    output: Place = Field(
        description="Output of the teacher, in the nested layout and with all candidates (`ranking.top_n: null`)."
    )
    config: Name | None = Field(
        None,
        description="Config of the run that makes the output. `label` runs it if the output is not finished, with the "
        "key output above for its `output.path`, in the nested layout, and with the input of this file if it has one. "
        "null: the output must be finished.",
    )
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] = Field(
        1.0, description="Weight of the teacher's score in the mean."
    )


if TYPE_CHECKING:
    _From = Section
else:  # the key is a word of Python, which a class body cannot declare
    _From = create_model(
        "_From",
        __base__=Section,
        **{
            "from": (
                PositivesFrom,
                Field(
                    "qrels",
                    description="What says which candidates are relevant. qrels: a file of relevance judgments. "
                    "column: a field of the candidates, a second list of as many values, or a column of the "
                    "pairs layout. top1: the candidate with the highest score.",
                ),
            )
        },
    )


class PositivesConfig(_From):
    """Which candidates are positives."""

    qrels: Place | None = Field(
        None,
        description="Relevance judgments: a TREC file, or a Parquet file or a text file with tabs that has the columns "
        "query_id, doc_id and relevance, or BEIR's names of them. Only with `from: qrels`, which needs it. null: none.",
    )
    column: Name | None = Field(
        None, description="The column with `from: column`: a whole number or true and false. null: none."
    )
    min_relevance: Positive = Field(1, description="Least relevance of a positive in qrels or column.")
    min_score: Number | None = Field(
        None, description="Least score of a positive; a lower one is dropped (below_min). null: no limit."
    )

    @field_validator("column")
    @classmethod
    def _name_is_free(cls, name: str | None) -> str | None:
        if name in RESERVED_NAMES:
            raise ValueError(f"{name}: a column of the output has this name; rename it in the input")
        return name

    @property
    def source(self) -> PositivesFrom:
        """The key `from`."""
        source: PositivesFrom = getattr(self, "from")
        return source

    @model_validator(mode="after")
    def _has_its_source(self) -> PositivesConfig:
        given = {"qrels": self.qrels, "column": self.column}
        for name, value in given.items():
            if (value is None) == (self.source == name):
                raise ValueError(f"from: {self.source} {'needs' if value is None else 'has no use for'} the key {name}")
        return self


class NegativesConfig(Section):
    """Which of the other candidates are negatives."""

    relative_margin: Margin | None = Field(
        0.05,
        description="A negative's logit may be at most that of the query's lowest positive, less this share of its "
        "magnitude, by each teacher. null: no such limit.",
    )
    absolute_margin: Margin | None = Field(
        None,
        description="A negative's score must be that much below the score of the lowest positive, by each teacher, in "
        "the units of `labels.scale`. null: no such limit.",
    )
    max_score: Number | None = Field(None, description="Highest score of a negative. null: no limit.")
    min_score: Number | None = Field(None, description="Least score of a negative. null: no limit.")
    rank: list[Count | None] = Field(
        [0, None],
        description="Of the negatives that pass, by score from 0: the first one that is used, and the first that no "
        "longer is (null: all to the last).",
    )
    num: Positive = Field(7, description="Negatives of a query, at most.")
    min_num: Count = Field(
        1, description="Negatives of a query, at least; a query with fewer is dropped (too_few_negatives)."
    )
    sampling: Literal["top", "random", "spread"] = Field(
        "top",
        description="top: the ones with the highest scores. random: any. spread: evenly over the ranks of those that "
        "pass, for training on scores.",
    )
    seed: Count = Field(0, description="Of random: equal seeds give equal labels.")

    @field_validator("rank")
    @classmethod
    def _is_a_window(cls, rank: list[int | None]) -> list[int | None]:
        if len(rank) != 2 or rank[0] is None or (rank[1] is not None and rank[1] <= rank[0]):
            raise ValueError("two numbers are expected, the second larger or null, such as [0, 30]")
        return rank

    @model_validator(mode="after")
    def _least_is_below_most(self) -> NegativesConfig:
        if self.min_num > self.num:
            raise ValueError(f"min_num={self.min_num} is above num={self.num}")
        return self


class AgreementConfig(Section):
    """How far teachers must agree on a negative."""

    min_teachers: Positive | Literal["all"] = Field(
        "all", description="Number of teachers whose margins a negative must keep, or all."
    )
    max_disagreement: Margin | None = Field(
        None,
        description="How far the scores of two teachers may be apart for a candidate to be a negative, in the units of "
        "`labels.scale` (disagreement). null: no limit.",
    )


class ExportConfig(Section):
    """A training set that is written from the labels."""

    format: ExportFormat = Field(description="Who reads it; see docs/labels.md.")
    target: Place = Field(description="A new folder or URI for its files.")


class LabelsConfig(Section):
    """How the scores of teachers become training data."""

    teachers: list[TeacherConfig] = Field(description="The teachers, at least one.", min_length=1)
    combine: Literal["mean", "min", "none"] = Field(
        "mean",
        description="Score of a pair: the weighted mean or the lowest of the teachers' scores. none: the score of the "
        "first teacher; the others only decide about negatives.",
    )
    scale: Literal["robust", "none", "calibrated"] = Field(
        "robust",
        description="How the logits of a teacher become its scores. robust: less their median, divided by their "
        "interquartile range, over the whole run. none: as they are. calibrated: by a logistic regression on the "
        "positives, so that a score is a log-odds.",
    )
    positives: PositivesConfig
    negatives: NegativesConfig = Field(default_factory=NegativesConfig)
    agreement: AgreementConfig = Field(default_factory=AgreementConfig)
    false_negatives: Literal["drop", "relabel", "keep"] = Field(
        "drop",
        description="What becomes of candidates that are too close to a positive to be negatives. drop: they are left "
        "out (too_close). relabel: those that two teachers or more put above all positives become positives. keep: "
        "they stay negatives, so that margins drop nothing.",
    )
    exports: list[ExportConfig] = Field(
        default_factory=list, description="Training sets to write after the labels. May be empty."
    )

    @model_validator(mode="after")
    def _fits_the_teachers(self) -> LabelsConfig:
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) < len(names):
            raise ValueError("two teachers have one name")
        least = self.agreement.min_teachers
        if least != "all" and least > len(names):
            raise ValueError(f"agreement.min_teachers={least} is more than the {len(names)} teachers")
        if self.false_negatives == "relabel" and len(names) < 2:
            raise ValueError("false_negatives: relabel needs two teachers or more")
        targets = [wanted.target for wanted in self.exports]
        if len(set(targets)) < len(targets):
            raise ValueError("two exports have one target")
        if self.scale == "calibrated" and self.positives.source == "top1":
            raise ValueError("scale: calibrated needs judgments: set positives.from to qrels or column")
        return self


class LabelsOutputConfig(Section):
    """Where the labels go."""

    path: Place = Field(
        description="Folder or URI of the labels: new, or labels of the same settings that were interrupted."
    )
    unit_pairs: Positive | Auto = Field(
        "auto", description="Candidates of a part, roughly. auto is 16,384; it bounds the memory."
    )


class LabelConfig(ConfigFile):
    """All settings of `label`.

    Build it from a file with `LabelConfig.load`, from plain values with `LabelConfig.of`.
    """

    input: InputConfig | None = Field(
        None,
        description="The table that the teachers have scored, or are to score. null: that of the first teacher.",
    )
    labels: LabelsConfig
    output: LabelsOutputConfig
