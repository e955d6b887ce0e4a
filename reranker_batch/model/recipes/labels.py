"""Which label of a head is relevance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reranker_batch.errors import ModelError

_KEY = "model.positive_label"


def num_labels(config: Mapping[str, Any]) -> int:
    """Labels of the head: as transformers reads a config.json, which means two where nothing is said."""
    id2label = config.get("id2label")
    if id2label:
        return len(id2label)
    return int(config.get("num_labels") or 2)


def positive_label(config: Mapping[str, Any], asked: int | str | None, *, seen: str) -> int | None:
    """The index of the label that is relevance in a head with two; None for a head with one.

    `asked` is the index or the name of the label, `seen` names the model in messages.

    Raises:
        ModelError: There are more labels, or nobody said which of the two it is.
    """
    count = num_labels(config)
    if count == 1 and asked is not None:
        raise ModelError(f"{_KEY}={asked!r} chooses one of two labels, and the model has one ({seen}). Remove it.")
    if count == 1:
        return None
    names = label_names(config)
    if count != 2:
        raise ModelError(
            f"The model has {count} labels ({seen}), and a reranker has one, or two of which {_KEY} names the relevant "
            f"one: {_listed(names)}. Use a model trained with num_labels=1."
        )
    chosen = [index for index, name in names.items() if asked == (index if isinstance(asked, int) else name)]
    stated = (config.get("label2id") or {}).get(asked, chosen[0] if chosen else None)
    if len(chosen) == 1 and str(stated) == str(chosen[0]):
        return chosen[0]
    if len(chosen) == 1:
        raise ModelError(
            f"{_KEY}={asked!r} is label {chosen[0]} by id2label in config.json, and label {stated} by label2id "
            f"({seen}). Set {_KEY} to the index."
        )
    problem = "which of them is relevance is unknown" if asked is None else f"{_KEY}={asked!r} names none, or both"
    raise ModelError(
        f"The model has 2 labels ({seen}): {_listed(names)}, and {problem}. Set {_KEY} to the index or the name of the "
        "one that means relevant; the logit is then its own less the other's."
    )


def label_names(config: Mapping[str, Any]) -> dict[int, str]:
    """Names by index, by id2label or as transformers makes them up."""
    id2label = config.get("id2label") or {}
    count = num_labels(config)
    return {index: str(id2label.get(str(index), id2label.get(index, f"LABEL_{index}"))) for index in range(count)}


def _listed(names: Mapping[int, str]) -> str:
    shown = ", ".join(f"{index} ({name!r})" for index, name in list(names.items())[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
