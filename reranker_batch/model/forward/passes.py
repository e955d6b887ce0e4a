"""Micro-batches of a model, one after the other or side by side, halved where the memory of the device asks for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

from reranker_batch.core.ragged import LongArray
from reranker_batch.model.forward.lanes import Lanes

logger = logging.getLogger(__name__)


class Costed(Protocol):
    """Inputs of one pass each, of which several may share a micro-batch."""

    @property
    def costs(self) -> LongArray: ...

    def __len__(self) -> int: ...


PassInputs = TypeVar("PassInputs", bound=Costed)
_Any = TypeVar("_Any", bound=Costed, contravariant=True)


class PassForward(Protocol[_Any]):
    """Runs a model on inputs of one kind: `inputs` are those of a whole unit, `rows` are a micro-batch of them."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    def micro_batches(self, inputs: _Any, *, max_batch_tokens: int) -> Iterator[LongArray]:
        """Rows of the unit that share a forward pass. Every row comes once; only the arguments decide.

        Raises:
            PairTooLongError: One pair alone is over the budget.
        """

    def tokens(self, inputs: _Any, rows: LongArray) -> int:
        """Tokens that the model computes for these rows, padding included."""

    def __call__(self, inputs: _Any, rows: LongArray) -> torch.Tensor:
        """Results of these rows on the model's device, without waiting for it."""


@dataclass
class Outcome:
    """Results of micro-batches: tensors on the device for their rows, and the rows that do not fit even alone."""

    scored: list[tuple[LongArray, torch.Tensor]] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    splits: int = 0

    def add(self, other: Outcome) -> None:
        self.scored += other.scored
        self.failed += other.failed
        self.splits += other.splits

    def rows(self) -> list[LongArray]:
        """The rows that are done, scored or failed."""
        return [*(rows for rows, _ in self.scored), np.array(self.failed, dtype=np.int64)]


class Passes(Generic[PassInputs]):
    """Runs a forward pass under a token budget, which is lowered for good when a micro-batch runs out of memory."""

    def __init__(
        self,
        forward: PassForward[PassInputs],
        *,
        device: torch.device,
        max_batch_tokens: int,
        lanes: Lanes | None = None,
    ) -> None:
        self.forward = forward
        self.device = device
        self.max_batch_tokens = max_batch_tokens
        self.lanes = lanes or Lanes()
        self.fitting_tokens = max_batch_tokens
        """Tokens of a micro-batch that fit into memory: the budget, until a micro-batch runs out of memory."""

    def run(self, inputs: PassInputs, *, one_by_one: bool, on_progress: Callable[[int], None]) -> Outcome:
        """Results of all inputs, each in a pass of its own if asked for."""
        batches: list[LongArray] = list(
            np.arange(len(inputs), dtype=np.int64)[:, None]
            if one_by_one
            else self.forward.micro_batches(inputs, max_batch_tokens=self.max_batch_tokens)
        )
        whole, costs, done = Outcome(), inputs.costs, 0
        for outcome in self.lanes.map(partial(self._run, inputs), self.lanes.even(batches)):
            whole.add(outcome)
            done += sum(int(costs[rows].sum()) for rows in outcome.rows())
            on_progress(done)
        return whole

    def _run(self, inputs: PassInputs, rows: LongArray) -> Outcome:
        """One micro-batch, in halves and halves of halves where memory asks for it."""
        waiting = deque([rows])
        done = Outcome()
        while waiting:
            rows = waiting.popleft()
            tokens = self.forward.tokens(inputs, rows)
            if len(rows) > 1 and tokens > self.fitting_tokens:
                waiting.extendleft((rows[len(rows) // 2 :], rows[: len(rows) // 2]))
            elif (on_device := self._try(inputs, rows)) is not None:
                done.scored.append((rows, on_device))
            elif len(rows) == 1:
                done.failed.append(int(rows[0]))
            else:
                done.splits += 1
                self.fitting_tokens = tokens // 2
                waiting.appendleft(rows)
        return done

    def _try(self, inputs: PassInputs, rows: LongArray) -> torch.Tensor | None:
        """Results of a micro-batch; None where it does not fit into memory."""
        try:
            with torch.inference_mode():
                return self.forward(inputs, rows)
        except torch.OutOfMemoryError as error:
            logger.warning("micro-batch of %d inputs, %d tokens: %s", len(rows), inputs.costs[rows].sum(), error)
        # The traceback referred to the tensors of the failed pass until here.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None
