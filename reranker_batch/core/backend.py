"""What computes the logits of a job: the seam between a job and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from reranker_batch.core.activation import Activation
from reranker_batch.core.pairs import PairEncoder, PairScorer

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Where:
    """What one scorer computes on, and the longest pair it gets."""

    device: Device
    threads: int = 0
    """Of one scorer; 0 leaves the library's own choice."""
    max_pair_tokens: int | None = None
    """None: as long as the model reads."""
    max_batch_tokens: int | None = None
    """None: what suits the device."""


@dataclass(frozen=True)
class Description:
    """What a person wants to know of a backend. It decides no score."""

    name: str
    """As it was asked for."""
    recipe: str
    reason: str
    """Why this recipe."""
    revision: str | None = None


class ScoringBackend(Protocol):
    """Gives a job its encoder and its scorers. Small and picklable: every process loads what it needs by itself."""

    @property
    def activation(self) -> Activation:
        """Logit -> relevance score."""

    @property
    def resources(self) -> Sequence[Device]:
        """Devices that a scorer may be placed on, best first."""

    @property
    def description(self) -> Description: ...

    def identity(self, device: Device) -> Mapping[str, Any]:
        """What decides a logit when it is computed on `device`, as JSON; equal identities give equal logits."""

    def caution(self, device: Device) -> str | None:
        """What to tell who is about to score on `device` of this machine; None where nothing is wrong with it."""

    def operations_per_token(self) -> float:
        """Arithmetic operations that a token costs, roughly."""

    def load_encoder(self) -> PairEncoder:
        """The tokenizer, without weights. Raises ModelError where it is not the one that the run was planned with."""

    def load_scorer(self, where: Where) -> PairScorer:
        """One copy of the model, checked. Raises ModelError where it is not the one that the run was planned with."""

    def load_exact_scorer(self, where: Where) -> PairScorer | None:
        """A second copy in float32, to compare with; None where `load_scorer` gives that already."""
