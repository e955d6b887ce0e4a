"""Silence what transformers and the hub say to a person at a prompt, for the length of one call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# The two libraries are imported where they are used: a process that loads no model need not pay for them.


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars and no advice from transformers while a model or a tokenizer loads.

    What was set before is set again afterwards: these switches belong to the whole process and other code
    of it may want them.
    """
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    level = logger.level
    had_bar = transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # DeBERTa-v2 compiles helpers with torch.jit.script, which newer versions of torch deprecate.
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.script.*` is (deprecated|not supported)")
            yield
    finally:
        logger.setLevel(level)
        if had_bar:
            transformers_logging.enable_progress_bar()


@contextmanager
def quiet_download() -> Iterator[None]:
    """No progress bars of the hub client, which would fill the log of a batch job."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    was_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            enable_progress_bars()
