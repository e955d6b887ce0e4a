"""What a pattern of paths reaches: `*` and `?` stop at a slash, `**` does not and may stand for no folder at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pyarrow import fs

from reranker_batch.errors import InputError
from reranker_batch.storage.files.walking import Entry, Tree, children, is_hidden, relative, walk
from reranker_batch.uris import split_options

_GLOB = re.compile(r"[*?\[]")


def has_glob(place: str) -> bool:
    return _GLOB.search(split_options(place)[0]) is not None


def split_glob(place: str) -> tuple[str, str]:
    """The last folder before the first pattern character, and the rest."""
    plain, options = split_options(place)
    first = _GLOB.search(plain)
    cut = plain.rindex("/", 0, first.start() if first else None)
    root = plain[:cut]
    if not root or root.endswith((":/", ":")):
        root = plain[: cut + 1]
    return root + options, plain[cut + 1 :]


def matches(filesystem: fs.FileSystem, root: str, pattern: str) -> Tree:
    """Files and folders below `root` that the pattern means; hidden names only where it asks for them.

    Raises:
        InputError: The pattern is wrong.
    """
    segments = pattern.split("/")
    wants_hidden = is_hidden(pattern)
    depth = next((at for at, segment in enumerate(segments) if "**" in segment), None)
    if depth is None:
        return Tree(list(_level(filesystem, root, segments, wants_hidden)), {})
    starts = [entry.path for entry in _level(filesystem, root, segments[:depth], wants_hidden)] if depth else [root]
    is_match = matcher(pattern)
    matches = Tree([], {})
    for tree in (walk(filesystem, start, into_hidden=wants_hidden) for start in starts):
        matches.left_out.update(tree.left_out)
        for entry in tree.entries:
            name = relative(entry.path, root)
            if is_match(name) and (wants_hidden or not is_hidden(name)):
                matches.entries.append(entry)
    return matches


def _level(filesystem: fs.FileSystem, folder: str, segments: list[str], wants_hidden: bool) -> Iterator[Entry]:
    """Names level by level, so that only folders that the pattern can mean are looked into."""
    is_match = matcher(segments[0])
    for entry in children(filesystem, folder):
        name = relative(entry.path, folder)
        if not is_match(name) or (is_hidden(name) and not wants_hidden):
            continue
        if len(segments) == 1:
            yield entry
        elif entry.kind == "folder":
            yield from _level(filesystem, entry.path, segments[1:], wants_hidden)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path below the pattern's root is one that it means.

    Raises:
        InputError: The pattern is wrong.
    """
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
