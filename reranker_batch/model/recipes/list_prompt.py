"""The text that a listwise model reads, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ListPrompt:
    """The text of one block of a request: `head`, then `passage` for each document, then `tail`.

    `{documents}` is their number and `{number}` the place of one, from 0 on. The vendor's code tokenizes the whole as
    one text. A document is read in the state of the `document_mark` behind it, the query in that of the last
    `query_mark`. Both are removed from texts.
    """

    head: str
    passage: str
    tail: str
    document_mark: str
    query_mark: str
    max_document_tokens: int
    max_query_tokens: int
    max_documents: int = 125
    """Of one block."""
    instruct_line: str = "<instruct>\n{}\n</instruct>\n"

    @property
    def marks(self) -> tuple[str, str]:
        """In the order in which the vendor's code removes them."""
        return self.query_mark, self.document_mark

    def instruct_text(self, instruct: str | None) -> str:
        return self.instruct_line.replace("{}", instruct) if instruct else ""
