"""What a recipe is: how (instruct, query, document) becomes token ids, and how a model's output becomes a score."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from reranker_batch.core.activation import Activation
from reranker_batch.model.recipes.list_prompt import ListPrompt

_FIELD = re.compile(r"\{(instruct|query|documents?|number)\}")


@dataclass(frozen=True)
class Piece:
    """A part of a prompt that is tokenized on its own: `literals` with one of `fields` between each two.

    In a piece without fields, `<|im_start|>` and the like are read as control tokens; in one with texts they
    are characters.
    """

    literals: tuple[str, ...]
    fields: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Piece:
        parts = _FIELD.split(text)
        return cls(tuple(parts[::2]), tuple(parts[1::2]))

    def fill(self, values: Mapping[str, str]) -> str:
        """The piece as one text. What looks like a field inside a value stays as it is."""
        filled = [
            item
            for field, literal in zip(self.fields, self.literals[1:], strict=True)
            for item in (values[field], literal)
        ]
        return self.literals[0] + "".join(filled)

    def before(self, field: str, values: Mapping[str, str]) -> str:
        """The piece up to `field`, filled."""
        at = self.fields.index(field)
        return Piece(self.literals[: at + 1], self.fields[:at]).fill(values)

    def between(self, field: str, next_field: str) -> str:
        """The text between two neighbouring fields."""
        at = self.fields.index(field)
        assert self.fields[at + 1] == next_field
        return self.literals[at + 1]

    def after(self, field: str, values: Mapping[str, str]) -> str:
        """The piece from behind `field` on, filled."""
        at = self.fields.index(field)
        return Piece(self.literals[at + 1 :], self.fields[at + 1 :]).fill(values)


@dataclass(frozen=True)
class Prompt:
    """The text that a model reads, and the tokens whose logits are its answer if it gives one.

    `pieces` are tokenized apart, as in the vendor's code. `{query}` comes before `{document}`, which ends its piece and
    follows `lead`. `{instruct}` becomes `instruct_line`, or nothing where there is no instruction.
    """

    pieces: tuple[str, ...]
    positive: str | None
    negative: str | None
    """The logit is that of `positive` minus that of `negative`, or of `positive` alone; without both, of a label."""
    instruct_line: str = "{}"
    default_instruct: str | None = None
    instructed_pieces: tuple[str, ...] | None = None
    """The pieces with an instruction, where these are others."""
    lead: str = " "
    """What a text follows, and is tokenized with: its first word may be joined with it."""
    empty: str = ""
    """What stands for an empty query or document."""
    is_one_text: bool = False
    """Whether the vendor's code tokenizes the prompt as one text; `pieces` then only mark control tokens."""

    def instruct_text(self, instruct: str | None) -> str:
        chosen = instruct or self.default_instruct
        return self.instruct_line.replace("{}", chosen) if chosen else ""

    def pieces_for(self, instruct_text: str) -> tuple[str, ...]:
        """The pieces with this instruction; an empty one is none."""
        return self.instructed_pieces if instruct_text and self.instructed_pieces else self.pieces

    def parsed(self, instruct_text: str) -> tuple[Piece, ...]:
        return tuple(Piece.parse(piece) for piece in self.pieces_for(instruct_text))


class Kind(Enum):
    """What a model is, by which its encoder and its forward pass are chosen."""

    PAIR = "pair"
    """Reads query and document as one pair; a head with a single label gives the logit."""
    PROMPT = "prompt"
    """Is asked with a prompt; the logit is that of its answer."""
    TEXT = "text"
    """Reads query and document in one text made with a prompt; a head with a single label gives the logit."""
    LIST = "list"
    """Reads all documents of a request in one prompt; the logit of each is the cosine of its state and the query's."""


@dataclass(frozen=True)
class Recipe:
    """How one family of models is scored. `activation` turns its logits into relevance scores.

    A recipe is plain data: `prompt` is None for models of the kinds `PAIR` and `LIST`.
    """

    name: str
    description: str
    source: str
    version: int
    """Raised whenever the same model and texts would give other logits than before."""
    model_types: frozenset[str]
    """`model_type` of the config.json files this recipe serves."""
    architectures: tuple[str, ...]
    """Endings of the class names in `architectures`."""
    examples: tuple[str, ...]
    """Published models that it was written for."""
    activation: Activation = field(default_factory=Activation)
    prompt: Prompt | None = None
    list_prompt: ListPrompt | None = None
    """Of models of the kind `LIST` alone."""
    instruct: str | None = None
    """The instruction asked for; None means the vendor's default."""
    positive_label: int | None = None
    """The label that means relevant, for a head with two; None for one with a single label."""
    max_tokens: int | None = None
    """Tokens of a pair that the vendor's own code reads, where that is less than the model could."""
    repositories: str | None = None
    """Pattern of the hub ids that this recipe was written for; a config.json does not tell a family with a prompt."""
    hidden_sizes: frozenset[int] | None = None
    """Sizes of this family's models, where two families differ in nothing else."""
    has_sliding_layers: bool | None = None
    """Whether some layers of this family's models see a window alone, where that tells two families apart."""
    has_module_head: bool = False
    """Whether sentence-transformers' modules make the logit, and not a head that transformers loads."""
    converted_from: str | None = None
    """`model_type` of the repositories whose settings are translated, where the family is none of transformers."""
    types_with_positions_after_padding: frozenset[str] = frozenset()
    """Model types whose first position is `pad_token_id + 1`, so that many positions are never used."""

    @property
    def kind(self) -> Kind:
        if self.list_prompt is not None:
            return Kind.LIST
        if self.prompt is None:
            return Kind.PAIR
        return Kind.TEXT if self.prompt.positive is None else Kind.PROMPT

    @property
    def required_prompt(self) -> Prompt:
        """The prompt, for code that serves models with one alone."""
        if self.prompt is None:
            raise ValueError(f"The recipe {self.name} has no prompt.")
        return self.prompt

    @property
    def required_list_prompt(self) -> ListPrompt:
        """The prompt of a listwise model, for code that serves such models alone."""
        if self.list_prompt is None:
            raise ValueError(f"The recipe {self.name} is not listwise.")
        return self.list_prompt

    @property
    def uses_instruct(self) -> bool:
        if self.list_prompt is not None:
            return True
        if self.prompt is None:
            return False
        pieces = (*self.prompt.pieces, *(self.prompt.instructed_pieces or ()))
        return any("{instruct}" in piece for piece in pieces)

    @property
    def resolved_instruct(self) -> str | None:
        """The instruction that the model reads."""
        if not self.uses_instruct:
            return None
        return self.instruct or (None if self.prompt is None else self.prompt.default_instruct)

    def with_instruct(self, instruct: str | None) -> Recipe:
        return replace(self, instruct=instruct)

    def max_positions(self, config: Mapping[str, Any]) -> int | None:
        """Tokens that the model's positions reach to, or None if the config sets no maximum."""
        positions = config.get("max_position_embeddings")
        if positions is None:
            return None
        if config.get("model_type") in self.types_with_positions_after_padding:
            # XLM-R says 8194 and reads 8192 (FlagEmbedding #990): positions count from padding_idx + 1.
            padding_id = config.get("pad_token_id")
            return int(positions) - (1 if padding_id is None else int(padding_id)) - 1
        return int(positions)
