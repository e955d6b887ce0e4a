"""A tokenizer.json is tried before it is used: one that makes a flood of tokens, or does not end, is refused."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import TEXTS
from reranker_batch.model.folder.bounded import run_bounded
from reranker_batch.model.folder.json_files import require_content

_MAX_BYTES = 512 << 20
_MAX_GROWTH, _MAX_CONSTANT = 64, 64
"""Characters or tokens that a text may become: for each of its characters, and once. Unicode's largest factor is 18, in
bytes 33."""
_ENDING = frozenset(
    {
        "BertNormalizer",
        "BertPreTokenizer",
        "ByteLevel",
        "Digits",
        "Lowercase",
        "Metaspace",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Punctuation",
        "Sequence",
        "Strip",
        "StripAccents",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    }
)
"""Steps without a pattern or a table of the file's author: known to end, and not to add text."""
_REPEATED = ("a", "A", "1", " ", "\n", "!", "é", "中", "\u0301", "ab ", "a1", "<>", "\t ", "_-", "ﷺ")
_REPEATS = 3_000


def load_raw_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes, tried on texts and found to end and to make few tokens.

    Raises:
        ModelError: The file is damaged, or the tokenizer is not usable; names the file.
    """
    require_content(path)
    if path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"{path} is larger than {_MAX_BYTES >> 20} MiB, which no tokenizer is.")
    try:
        raw = Tokenizer.from_file(str(path))
    except BaseException as error:  # The library panics at some files, which is no Exception.
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ModelError(f"{path} cannot be read as a tokenizer: {str(error)[:300]}. Copy the model again.") from error
    plain(raw)
    _require_bounded_steps(path, _state(raw.normalizer), _state(raw.pre_tokenizer))
    _require_certain(path, raw)
    _require_few_tokens(path, raw)
    return raw


def plain(backend: Tokenizer) -> Tokenizer:
    """Switch truncation, padding and the search for special tokens in texts off."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _state(part: Any) -> str:
    """A step of a tokenizer as JSON."""
    return "null" if part is None else part.__getstate__().decode("utf-8")


def _require_bounded_steps(path: Path, normalizer: str, pre_tokenizer: str) -> None:
    if _types(json.loads(normalizer)) | _types(json.loads(pre_tokenizer)) <= _ENDING:
        return
    if not _are_bounded(normalizer, pre_tokenizer):
        raise ModelError(
            f"{path} turns short texts into very long ones, or takes very long for them (its normalizer and "
            "pre_tokenizer were tried). Use the tokenizer that the model was published with."
        )


@lru_cache(maxsize=64)
def _are_bounded(normalizer: str, pre_tokenizer: str) -> bool:
    texts = [*TEXTS, *(item * (_REPEATS // len(item)) for item in _REPEATED), "a" * _REPEATS + "!"]
    words = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}
    steps = {"normalizer": json.loads(normalizer), "pre_tokenizer": json.loads(pre_tokenizer)}
    tokenizer = {"version": "1.0", "added_tokens": [], "post_processor": None, "decoder": None, "model": words, **steps}
    lengths = run_bounded("normalize", tokenizer=tokenizer, texts=texts)
    return lengths is not None and all(
        length <= _MAX_GROWTH * len(text) + _MAX_CONSTANT for length, text in zip(lengths, texts, strict=True)
    )


def _types(step: Any) -> set[str]:
    if isinstance(step, list):
        return {name for item in step for name in _types(item)}
    if not isinstance(step, dict):
        return set()
    own = {str(step["type"])} if "type" in step else set()
    return own.union(*(_types(value) for key, value in step.items() if key in ("normalizers", "pretokenizers")))


def _require_certain(path: Path, raw: Tokenizer) -> None:
    if getattr(raw.model, "dropout", None):
        raise ModelError(
            f"{path} leaves out merges at random (dropout={raw.model.dropout}), so a text has another score each "
            'time. Set "dropout": null.'
        )


def _require_few_tokens(path: Path, raw: Tokenizer) -> None:
    for text in TEXTS:
        num_tokens = len(raw.encode(text).ids)
        if num_tokens > _MAX_GROWTH * len(text) + _MAX_CONSTANT:
            raise ModelError(
                f"{path} makes {num_tokens:,} tokens of {text!r}, which has {len(text)} characters. Use the tokenizer "
                "that the model was published with."
            )
