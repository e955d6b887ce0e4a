"""A prompt cut into the parts that are tokenized on their own, and the same prompt read as the recipe says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from reranker_batch.core.ragged import IntArray
from reranker_batch.model.encoding.text_reader import TextReader
from reranker_batch.model.recipes import Piece, Prompt


@dataclass(frozen=True)
class PromptParts:
    """A prompt in parts: system, query with the text around it, label, suffix.

    `bare_before` and `bare_after` are the ids of the texts around the query, read without a query between them.
    """

    system: tuple[int, ...]
    before_query: str
    query_lead: str
    """The prompt's lead, where the query follows it; else nothing."""
    after_query: str
    bare_before: tuple[int, ...]
    bare_after: tuple[int, ...]
    label: tuple[int, ...]
    """What stands between the query's part and the document's lead."""
    suffix: tuple[int, ...]

    @property
    def constant_ids(self) -> tuple[int, ...]:
        return self.system + self.bare_before + self.bare_after + self.label + self.suffix

    def prefix(self, query_ids: IntArray) -> tuple[int, ...]:
        """All ids before the document, put together from the ids of a query."""
        return (*self.system, *self.bare_before, *query_ids, *self.bare_after, *self.label)


def split_prompt(prompt: Prompt, reader: TextReader, instruct: str) -> PromptParts:
    """The parts of a prompt with this instruction."""
    pieces, lead = prompt.parsed(instruct), prompt.lead
    of_query = next(at for at, piece in enumerate(pieces) if "query" in piece.fields)
    of_document = next(at for at, piece in enumerate(pieces) if "document" in piece.fields)
    values = {"instruct": instruct, "query": "", "document": ""}
    before_query = pieces[of_query].before("query", values)
    if of_query == of_document:
        after_query = pieces[of_query].between("query", "document").removesuffix(lead)
        label: tuple[int, ...] = ()
    else:
        after_query = pieces[of_query].after("query", values)
        before_document = pieces[of_document].before("document", values).removesuffix(lead)
        label = constant_ids(pieces[of_query + 1 : of_document], reader) + _text(before_document, reader)
    return PromptParts(
        system=constant_ids(pieces[:of_query], reader),
        before_query=before_query.removesuffix(lead),
        query_lead=lead if before_query.endswith(lead) else "",
        after_query=after_query,
        bare_before=_text(before_query.removesuffix(lead), reader),
        bare_after=_text(after_query, reader),
        label=label,
        suffix=constant_ids(pieces[of_document + 1 :], reader),
    )


def constant_ids(pieces: Iterable[Piece], reader: TextReader) -> tuple[int, ...]:
    """Ids of pieces without a query or document; control tokens are read as such."""
    return tuple(chain.from_iterable(_with_control_tokens(piece.fill({}), reader) for piece in pieces))


def _with_control_tokens(text: str, reader: TextReader) -> list[int]:
    reader.backend.encode_special_tokens = False
    try:
        ids: list[int] = reader.backend.encode(text, add_special_tokens=False).ids
        return ids
    finally:
        reader.backend.encode_special_tokens = True


def _text(text: str, reader: TextReader) -> tuple[int, ...]:
    return tuple(reader.read([text]).values.tolist())


def read_prompt(prompt: Prompt, reader: TextReader, *, instruct: str, query: str, document: str) -> list[int]:
    """The ids of one prompt exactly as the vendor's code reads it: as one text, or every piece on its own.

    As one text, a control token in the query would be one too; the canary texts have none.
    """
    values = {"instruct": instruct, "query": query or prompt.empty, "document": document or prompt.empty}
    pieces = prompt.parsed(instruct)
    if prompt.is_one_text:
        return _with_control_tokens("".join(piece.fill(values) for piece in pieces), reader)
    parts = (_text(piece.fill(values), reader) if piece.fields else constant_ids([piece], reader) for piece in pieces)
    return list(chain.from_iterable(parts))
