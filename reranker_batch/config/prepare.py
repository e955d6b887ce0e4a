"""The section about input by reference: a run, and the queries and documents that its ids stand for."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from reranker_batch.config.columns import Column
from reranker_batch.config.section import Section
from reranker_batch.config.sections import Place, Positive

Texts = Column | Annotated[list[Column], Field(min_length=1)]


class TableSection(Section):
    """A table, or just its path."""

    model_config = ConfigDict(json_schema_extra={"short": "path"})

    SHORT_KEY: ClassVar[str] = "path"
    """The key that a plain text in place of the section is for."""

    @model_validator(mode="before")
    @classmethod
    def _of_path(cls, value: Any) -> Any:
        return {cls.SHORT_KEY: value} if isinstance(value, str) else value


class RunConfig(TableSection):
    """Which documents are proposed for which queries: `run: PATH`, or its path and columns."""

    path: Place | None = Field(
        None,
        description="File, folder, glob or URI: a TREC or MS MARCO run, or a table of query and document ids, one pair "
        "or one list of documents a row. null: nothing is prepared.",
    )
    query_id: Column | None = Field(
        None, description="Column with the id of the query. null: the one with a usual name, or the first."
    )
    doc_id: Column | None = Field(
        None,
        description="Column with the id of the document, or with a list of ids in the order of their ranks. null: the "
        "one with a usual name, or the second.",
    )
    score: Column | None = Field(
        None, description="Column with the score, higher is better. null: the column `score`, if there is one."
    )
    rank: Column | None = Field(
        None,
        description="Column with the rank, which orders the candidates where there is no score. null: the column "
        "`rank`, if there is one.",
    )


class TextsConfig(TableSection):
    """Texts by their ids: a path, or a path and columns."""

    path: Place | None = Field(
        None, description="File, folder, glob or URI. null: the rows of the run carry their texts."
    )
    id: Column | None = Field(None, description="Column with the id. null: the one with a usual name, or the first.")
    text: Texts | None = Field(
        None,
        description="Column with the text, or several that are joined by a space, as in [title, text]. null: those "
        "with a usual name, or the second.",
    )


class PrepareConfig(Section):
    """Input by reference, joined and grouped once before it is scored; or rows of pairs in any order."""

    run: RunConfig = Field(default_factory=RunConfig)
    run_format: Literal["auto", "trec", "msmarco", "tsv", "parquet", "jsonl"] = Field(
        "auto",
        description="trec: qid Q0 docid rank score tag. msmarco: qid, pid and rank between tabs. The others have the "
        "columns of `run`. auto recognises it.",
    )
    queries: TextsConfig = Field(default_factory=TextsConfig)
    corpus: TextsConfig = Field(default_factory=TextsConfig)
    depth: Positive | None = Field(
        None, description="Candidates to keep of each query, best first; missing ones count. null keeps all."
    )
    output: Place | None = Field(
        None,
        description="Folder or URI of the prepared input, which several jobs may use. null: OUTPUT/run/input, inside "
        "output.path.",
    )
    on_missing: Literal["dead_letter", "drop", "fail"] = Field(
        "dead_letter",
        description="Candidates whose query or document has no text. dead_letter: they keep their place and become "
        "dead letters. drop: they are left out. fail: the preparation ends.",
    )
    on_duplicate_id: Literal["fail", "first"] = Field(
        "fail",
        description="Ids that are there twice in `queries` or `corpus`. fail: the preparation ends and names both "
        "places. first: the first text counts.",
    )
    drop_identical_ids: bool = Field(
        False, description="Leave out candidates whose document id is the id of their query."
    )

    @property
    def is_wanted(self) -> bool:
        return self.run.path is not None

    @property
    def has_texts(self) -> bool:
        """Whether the rows of the run carry their texts."""
        return self.queries.path is None

    @property
    def places(self) -> dict[str, str]:
        """What is read, by its key."""
        paths = {"run": self.run.path, "queries": self.queries.path, "corpus": self.corpus.path}
        return {f"prepare.{name}": path for name, path in paths.items() if path is not None}

    @model_validator(mode="after")
    def _is_whole(self) -> PrepareConfig:
        texts = {"queries": self.queries.path, "corpus": self.corpus.path}
        if self.is_wanted and len(absent := [name for name, path in texts.items() if path is None]) == 1:
            raise ValueError(
                f"{absent[0]} is missing: a run of ids needs queries and corpus; rows that carry their texts neither"
            )
        return self
