"""Counts of queries, candidates and tokens, of a unit or of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Counts:
    """What went into a unit and what became of it; the counts of all units add up to those of the run.

    Raises:
        ValueError: A count is no integer, or is negative.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    queries: int = 0
    candidates: int = 0
    scored: int = 0
    kept: int = 0
    truncated: int = 0
    requests: int = 0
    total_tokens: int = 0
    model_tokens: int = 0
    reused: int = 0
    """Of `scored`: pairs with the score of an earlier output."""
    failed_queries: int = 0
    split: int = 0
    """Of `scored`: pairs whose document was cut into chunks."""
    split_not_all_read: int = 0
    """Of `split`: pairs with text that is in no chunk."""
    best_chunk_not_first: int = 0
    """Of `split`: pairs whose logit is that of a later chunk."""
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """By reason code."""

    def __post_init__(self) -> None:
        if not isinstance(self.dead_letters, dict) or not all(isinstance(reason, str) for reason in self.dead_letters):
            raise ValueError(f"dead_letters are not counted by reason: {str(self.dead_letters)[:200]}")
        for count in (*(getattr(self, name) for name in _NUMBERS), *self.dead_letters.values()):
            if type(count) is not int or count < 0:
                raise ValueError(f"not a count: {str(count)[:200]!r}")

    def __add__(self, other: Counts) -> Counts:
        dead_letters = dict(self.dead_letters)
        for reason, count in other.dead_letters.items():
            dead_letters[reason] = dead_letters.get(reason, 0) + count
        sums = {name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        return Counts(**sums, dead_letters=dead_letters)

    @property
    def num_dead_letters(self) -> int:
        return sum(self.dead_letters.values())

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _NUMBERS} | {"dead_letters": dict(self.dead_letters)}

    @classmethod
    def from_dict(cls, values: Any) -> Counts:
        """Read what `to_dict` gives.

        Raises:
            ValueError: It is anything else.
        """
        if not isinstance(values, dict) or values.keys() != _NAMES:
            raise ValueError(f"{', '.join(sorted(_NAMES))} are expected, not {str(values)[:200]}")
        return cls(**values)


_NAMES = {count.name for count in fields(Counts)}
_NUMBERS = tuple(count.name for count in fields(Counts) if count.name != "dead_letters")
