"""Patterns in paths and URIs: `*`, `?`, `[…]` and `**`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from reranker_batch.errors import InputError
from reranker_batch.uris import split_options

_GLOB = re.compile(r"[*?\[]")


def matcher(pattern: str) -> Callable[[str], bool]:
    """`*` and `?` stop at a slash, `**` does not and may stand for no folder at all."""
    try:
        regex = re.compile("".join(_translate(pattern)))
    except re.error as error:
        raise InputError(f"The pattern {pattern!r} is wrong: {error}. Check input.path.") from None
    return lambda path: regex.fullmatch(path) is not None


def _translate(pattern: str) -> Iterator[str]:
    tokens = re.compile(r"(\*\*/)|(\*\*)|(\*)|(\?)|\[(!?)([^\]]+)\]|(.)", re.DOTALL)
    for folders, anything, star, one, negation, members, plain in tokens.findall(pattern):
        if folders:
            yield "(?:.*/)?"
        elif anything:
            yield ".*"
        elif star:
            yield "[^/]*"
        elif one:
            yield "[^/]"
        elif members:
            safe = re.sub(r"([\\^&~|\[])", r"\\\1", members)
            yield f"(?!/)[{'^' if negation else ''}{safe}]"
        else:
            yield re.escape(plain)


def split_glob(place: str) -> tuple[str, str]:
    """The last folder before the first pattern character, and the rest."""
    plain, options = split_options(place)
    first = _GLOB.search(plain)
    cut = plain.rindex("/", 0, first.start() if first else None)
    root = plain[:cut]
    if not root or root.endswith((":/", ":")):
        root = plain[: cut + 1]
    return root + options, plain[cut + 1 :]


def has_glob(place: str) -> bool:
    return _GLOB.search(split_options(place)[0]) is not None


def is_hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.split("/"))
