"""The columns of an input: as a config names them, and as a table is read with them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from reranker_batch.config.section import LARGEST, Name, Section
from reranker_batch.schema import RESERVED_NAMES

Position = Annotated[int, Field(ge=0, le=LARGEST)]
"""Of a column, counted from 0, in a file without a header."""
Column = Name | Position
Prepared = Literal["rows", "reference"]
"""What was prepared: rows that had their texts with them, or ids whose texts were looked up."""


class Columns(Section):
    """The columns of a table that is read as it is: names alone."""

    query_id: Name | None = "query_id"
    query: Name = "query"
    candidates: Name = "candidates"
    doc_id: Name | None = "doc_id"
    document: Name = "text"
    passthrough: list[Name] = Field(default_factory=list)


class Reading(Section):
    """How the rows of all files of an input are read."""

    layout: Literal["nested", "pairs"]
    columns: Columns
    prepared: Prepared | None = None


class ColumnsConfig(Section):
    """Columns of the input: names, paths such as `query.text`, or positions counted from 0 in files without a header.

    A name that is there wins over a path.
    """

    query_id: Column | None = Field(
        "query_id",
        description="Column with the id of a query. With null, or where the input has no such column, ids are made "
        "from file and row.",
    )
    query: Column = Field("query", description="Column with the text of the query.")
    candidates: Column | Annotated[list[Column], Field(min_length=1)] = Field(
        "candidates",
        description="Column with a query's candidates (nested layout): a list of structs or of texts. Or several: "
        "lists or columns of texts, as in [positive, negative]; their candidates stand in this order, and the name "
        "of the list is a column `list` of the output.",
    )
    doc_id: Column | None = Field(
        "doc_id",
        description="Id of a document: a field of the structs, a column of the pairs layout, or a second list column "
        "that is as long as a list of texts. With null, or where there is none, ids are made from file, row and index.",
    )
    document: Column | Annotated[list[Column], Field(min_length=1)] = Field(
        "text",
        description="Text of a document: a field of the structs, or a column of the pairs layout. Or several, as in "
        "[title, text]: they are joined, null and empty ones left out, and the result is stripped.",
    )
    separator: str = Field(" ", description="What stands between the texts that `document` joins.")
    passthrough: list[Name] = Field(
        default_factory=list, description="Further columns, or fields of the structs, to copy to the output unchanged."
    )

    @field_validator("passthrough")
    @classmethod
    def _names_are_free(cls, names: list[str]) -> list[str]:
        if taken := sorted(set(names) & RESERVED_NAMES):
            raise ValueError(f"{', '.join(taken)}: a column of the output has this name; rename it in the input")
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        return names

    @field_validator("candidates", "document")
    @classmethod
    def _stand_once(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(map(str, value))) < len(value):
            raise ValueError("a column stands there twice")
        return value

    @model_validator(mode="after")
    def _list_is_free(self) -> ColumnsConfig:
        if isinstance(self.candidates, list) and "list" in self.passthrough:
            raise ValueError("passthrough: list is the column with the name of a candidate's list; rename it")
        return self

    @property
    def has_positions(self) -> bool:
        """Whether a column is named by its place, so that files have no header."""
        columns = [self.query_id, self.query, self.doc_id, *as_list(self.candidates), *as_list(self.document)]
        return any(isinstance(column, int) for column in columns)

    def plain(self) -> Columns | None:
        """The same as names, None where a column is a position or several are joined."""
        if self.has_positions or isinstance(self.candidates, list) or isinstance(self.document, list):
            return None
        return Columns.model_validate(self.model_dump(exclude={"separator"}))


def as_list(columns: Column | list[Column]) -> list[Column]:
    """One column or several."""
    return columns if isinstance(columns, list) else [columns]
