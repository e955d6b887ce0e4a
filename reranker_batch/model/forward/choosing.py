"""Which forward pass a model is run with.

A faster pass is used only if it is shown to be right when the model is loaded. Its logic is compared in float32 with
pairs of one length at a time, which no padding and no other pair can change, whatever precision the model has, so that
rounding hides no fault. Its attention kernel is checked alone in the model's own precision. In half precision, the
logits of the whole model may then be three times as far from those in float32 as the plain pass is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.pairs import FloatArray
from reranker_batch.errors import ModelError, described
from reranker_batch.model.forward.agreement import Expected, trial_logits
from reranker_batch.model.forward.attending import BlockAttention, attend_block
from reranker_batch.model.forward.causal import SharedPrefixForward
from reranker_batch.model.forward.kernel_check import RecordingKernel, kernel_fault
from reranker_batch.model.forward.kernels import HALF, PlainKernel, VarlenKernel, kernels_for
from reranker_batch.model.forward.listwise import BlockInputs, ListForward, block_cosines, packed_vectors, scaled
from reranker_batch.model.forward.packed import PackedForward
from reranker_batch.model.forward.padded import EvenForward, Forward, PaddedForward, use_plain_outputs
from reranker_batch.model.forward.prepacking import prepack
from reranker_batch.model.forward.widening import in_float32
from reranker_batch.model.source.heads import answer_weights

logger = logging.getLogger(__name__)
_ONE_LENGTH = "pairs of one length are computed at a time, which is slower:"
_VECTORS, _COSINES = "Number {} of the trial vectors is", "Cosine {} of the trial is"
_SHARED, _BLOCKS = "With shared prefixes", "With several blocks in a row"
_NOT_PREPACKED = "torch's own linear layers are used, which is slower: oneDNN's give other logits for this model."


class _UnfitError(Exception):
    """Not for users: says why a model cannot be run with some forward pass."""


@contextmanager
def _unfit_on_error() -> Iterator[None]:
    """Any error may come from a family or a kernel that does not accept inputs of another shape."""
    try:
        yield
    except ModelError as error:
        raise _UnfitError(str(error)) from error
    except Exception as error:
        raise _UnfitError(described(error)) from error


def choose_forward(
    model: PreTrainedModel,
    trial: TokenInputs,
    *,
    device: torch.device,
    kernels: Sequence[VarlenKernel] | None = None,
) -> Forward:
    """The fastest pass that gives the trial pairs the logits that they have without padding.

    `kernels` are tried in this order; without them, those that the device and the precision can use.

    Raises:
        ModelError: The model's own pass fails.
    """
    use_plain_outputs(model)
    even = EvenForward(model, device)
    logits = _first_logits(model, lambda: trial_logits(even, trial))
    packing = _Packing(model, trial, device, Expected.exactly(logits), kernels)
    if model.dtype in HALF:
        try:
            with _unfit_on_error(), in_float32(model):
                exact = trial_logits(even, trial)
        except _UnfitError as error:
            logger.warning("%s this model cannot be checked in float32. %s", _ONE_LENGTH, error)
            return even
        packing.check_logic(exact)
        packing.expected = Expected.in_half(exact, logits, model.dtype)
    return _fastest(even, packing)


def _first_logits(model: PreTrainedModel, run: Callable[[], FloatArray]) -> FloatArray:
    """What the model's own pass gives; settings that its class accepts and cannot compute with show here first."""
    try:
        return run()
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} of transformers fails on ordinary pairs with the settings of this model's "
            f"config.json: {described(error)}. Compare config.json with the source."
        ) from error


def _fastest(even: EvenForward, packing: _Packing) -> Forward:
    """The fastest pass that gives the expected logits, with or without prepacked layers."""
    prepacking = prepack(packing.model) if packing.device.type == "cpu" else None
    forward = packing.forward()
    if forward is None and prepacking and (fault := packing.expected.fault(trial_logits(even, packing.trial))):
        logger.warning("%s %s", _NOT_PREPACKED, fault)
        prepacking.release()
        forward = packing.forward()
    if forward is None:
        return _not_packed(even, packing)
    logger.info("pairs are computed without padding, attention by %s; the trial pairs agree", forward.kernel.name)
    return forward


def _not_packed(even: EvenForward, packing: _Packing) -> Forward:
    """Padded where that changes no logit, else one length at a time."""
    padded = PaddedForward(packing.model, packing.device)
    fault = packing.padding_fault
    if fault is None:
        try:
            with _unfit_on_error():
                fault = packing.expected.fault(trial_logits(padded, packing.trial))
        except _UnfitError as error:
            fault = str(error)
    if fault is None:
        logger.warning("pairs are padded, which is slower: this model cannot be run packed. %s", packing.obstacle)
        return padded
    logger.warning("%s padding changes the logits of this model. %s", _ONE_LENGTH, fault)
    return even


class _Packing:
    """Tries to run a model packed. `obstacle` is the reason why that failed.

    `padding_fault` says what padding changes, where that was compared in float32.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        trial: TokenInputs,
        device: torch.device,
        expected: Expected,
        kernels: Sequence[VarlenKernel] | None,
    ) -> None:
        self.model = model
        self.trial = trial
        self.device = device
        self.expected = expected
        self.obstacle = ""
        self.padding_fault: str | None = None
        self._kernels = kernels or kernels_for(device, model.dtype)
        self._is_logical = True

    def check_logic(self, exact: FloatArray) -> None:
        """Run the model packed in float32 with the plain kernel. It is packed only if that gives these logits."""
        expected = Expected.exactly(exact)
        with in_float32(self.model):
            forward = self._try(PlainKernel(), expected)
            if forward is None:
                self.padding_fault = expected.fault(trial_logits(PaddedForward(self.model, self.device), self.trial))
            else:
                forward.release()
        self._is_logical = forward is not None

    def forward(self) -> PackedForward | None:
        """The packed pass with the first kernel that is right; None if there is none."""
        self.obstacle = "" if self._is_logical else self.obstacle
        for kernel in self._kernels if self._is_logical else ():
            recording = RecordingKernel(kernel)
            forward = self._try(recording, self.expected)
            if forward is None:
                continue
            if self._is_right(recording):
                if self.obstacle:
                    logger.warning("attention is computed by %s, which is slower. %s", kernel.name, self.obstacle)
                forward.kernel = kernel
                return forward
            forward.release()
        return None

    def _try(self, kernel: VarlenKernel, expected: Expected) -> PackedForward | None:
        forward: PackedForward | None = None
        try:
            with _unfit_on_error():
                forward = PackedForward(self.model, self.device, kernel)
                fault = expected.fault(trial_logits(forward, self.trial))
        except _UnfitError as error:
            fault = str(error)
        if fault is None:
            return forward
        self._note(kernel, fault)
        if forward is not None:
            forward.release()
        return None

    def _is_right(self, recording: RecordingKernel) -> bool:
        fault: str | None = None
        try:
            with _unfit_on_error(), torch.inference_mode():
                for shape in recording.shapes:
                    fault = fault or kernel_fault(recording.kernel, shape, device=self.device, dtype=self.model.dtype)
        except _UnfitError as error:
            fault = str(error)
        if fault is not None:
            self._note(recording, fault)
        return fault is None

    def _note(self, kernel: VarlenKernel, fault: str) -> None:
        self.obstacle = fault
        logger.info("not run packed with attention by %s: %s", kernel.name, fault)


def choose_causal_forward(
    model: PreTrainedModel,
    answer_ids: Sequence[int],
    trial: TokenInputs,
    *,
    device: torch.device,
    attention: BlockAttention = attend_block,
) -> Forward:
    """The forward pass of a model that is asked with a prompt: shared prefixes are computed once.

    Raises:
        ModelError: The model's attention is of another kind, or the logits are not those of the model's own pass.
    """
    use_plain_outputs(model)
    forward = SharedPrefixForward(model, answer_weights(model, answer_ids), device, attention=attention)
    expected = Expected.exactly(_first_logits(model, lambda: forward.plain_logits(trial.ids)))
    if model.dtype in HALF:
        plain = expected.logits
        with in_float32(model.base_model):
            expected = Expected.exactly(forward.plain_logits(trial.ids))
            _require_agreement(expected.fault(trial_logits(forward, trial)), _SHARED)
        expected = Expected.in_half(expected.logits, plain, model.dtype)
    _settle(model, device, lambda: expected.fault(trial_logits(forward, trial)), _SHARED)
    return forward


def require_plain_vectors(
    forward: ListForward, model: PreTrainedModel, trial: BlockInputs, *, device: torch.device
) -> None:
    """Prove a listwise model's packed pass on trial blocks, in float32 by its vectors, in half precision by cosines.

    Raises:
        ModelError: The vectors are not those of the model's own pass.
    """
    use_plain_outputs(model)
    plain = forward.plain_vectors(trial)
    if model.dtype not in HALF:
        expected = Expected.exactly(scaled(plain))
        _settle(model, device, lambda: expected.fault(scaled(packed_vectors(forward, trial)), what=_VECTORS), _BLOCKS)
        return
    with in_float32(model.base_model):
        exact = forward.plain_vectors(trial)
        expected = Expected.exactly(scaled(exact))
        _require_agreement(expected.fault(scaled(packed_vectors(forward, trial)), what=_VECTORS), _BLOCKS)
    wanted = Expected.in_half(block_cosines(trial, exact), block_cosines(trial, plain), model.dtype)
    _settle(
        model,
        device,
        lambda: wanted.fault(block_cosines(trial, packed_vectors(forward, trial)), what=_COSINES),
        _BLOCKS,
    )


def _settle(model: PreTrainedModel, device: torch.device, fault: Callable[[], str | None], how: str) -> None:
    """Use prepacked layers where the trial agrees with them, else torch's own.

    Raises:
        ModelError: It does not agree with these either.
    """
    prepacking = prepack(model) if device.type == "cpu" else None
    seen = fault()
    if seen and prepacking:
        logger.warning("%s %s", _NOT_PREPACKED, seen)
        prepacking.release()
        seen = fault()
    _require_agreement(seen, how)


def _require_agreement(fault: str | None, how: str) -> None:
    if fault:
        raise ModelError(
            f"{how} the logits are not those of the model's own pass. {fault} The model may run differently in this "
            "version of transformers; use one that constraints.txt names."
        )
