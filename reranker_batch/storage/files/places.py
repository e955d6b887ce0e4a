"""Whether the places of a job can be used, asked before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import unquote

from reranker_batch.errors import ConfigError, first_line
from reranker_batch.storage.files.filesystem import absolute, is_builtin, resolve
from reranker_batch.storage.files.globbing import has_glob, matcher, split_glob
from reranker_batch.storage.files.walking import is_hidden
from reranker_batch.uris import is_uri, scheme_of, split_options

_LONGEST_WAIT_S = 30.0
_REMEDY = "Check the address, the network and the credentials of this machine."
_SAME_SCHEMES = {"s3a": "s3", "gcs": "gs", "abfss": "abfs"}
_WRITTEN = ("", "/scores", "/scores/part-00000-0000000000.parquet", "/dead_letters", "/run", "/run/manifest.json")


def refuse_overlap(
    input_path: str, output_path: str, *, read_as: str = "input.path", written_as: str = "output.path"
) -> None:
    """Keep a run from reading what it writes: it could start, and never resume.

    Raises:
        ConfigError: The output is the input, or one of them is inside the other.
    """
    source, goal = _plain(input_path), _plain(output_path)
    if source is None or goal is None:
        return
    is_glob = has_glob(source) and not os.path.exists(source)  # a name that exists wins over the pattern
    root, pattern = split_glob(source) if is_glob else (source, "")
    inside = _below(goal, root)
    if _below(root, goal) is not None:
        relation = "is the input or has it inside"
    elif inside is not None and _would_read(pattern, inside):
        relation = "is inside what the input reads"
    else:
        return
    raise ConfigError(
        f"{written_as}={output_path} {relation} ({read_as}={input_path}), so the run could not be resumed. "
        "Use a folder outside the input."
    )


def is_within(inner: str, outer: str) -> bool:
    """Whether a place is another one or lies inside it, whatever links lead there."""
    below, above = _plain(inner), _plain(outer)
    return below is not None and above is not None and _below(below, above) is not None


def overlap(one: str, other: str) -> bool:
    """Whether two places are the same, or one lies inside the other."""
    return is_within(one, other) or is_within(other, one)


def _plain(place: str) -> str | None:
    """A form in which equal places are equal: links resolved, options and other names of a scheme left out."""
    if is_builtin(place):
        return None
    if is_uri(place):
        scheme, _, path = split_options(place)[0].partition("://")
        scheme = _SAME_SCHEMES.get(scheme.lower(), scheme.lower())
        if scheme != "file":
            return f"{scheme}:/{os.path.normpath('/' + unquote(path).lstrip('/'))}"
        place = unquote(path)
    return os.path.realpath(absolute(place))


def _below(place: str, folder: str) -> str | None:
    """`place` as seen from `folder`, '' for the folder itself, None where it is elsewhere."""
    if place == folder:
        return ""
    start = folder.rstrip("/") + "/"
    return place.removeprefix(start) if place.startswith(start) else None


def _would_read(pattern: str, inside: str) -> bool:
    """Whether listing the input would come upon the output, which lies `inside` its root."""
    if is_hidden(inside) and not is_hidden(pattern):
        return False
    if not pattern:
        return True
    parts = inside.split("/")
    folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    matches = matcher(pattern)
    return any(matches(path) for path in [*folders, *(inside + name for name in _WRITTEN)])


def check_access(*places: str, longest_wait_s: float = _LONGEST_WAIT_S) -> None:
    """Ask each place once, so that a store that cannot be reached is named within half a minute.

    Raises:
        ConfigError: A place cannot be reached, or not with these credentials.
    """
    for place in places:
        if is_uri(place) and scheme_of(place) != "file":
            _ask(split_glob(place)[0] if has_glob(place) else place, longest_wait_s)


def _ask(place: str, longest_wait_s: float) -> None:
    """In a process of its own: drivers cannot be told how long they may take, and some abort on a wrong address."""
    command = [sys.executable, "-c", f"from {__name__} import answer; answer()", place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=longest_wait_s, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{place} did not answer within {longest_wait_s:g} seconds. {_REMEDY}") from None
    if asked.returncode:
        printed = asked.stdout.decode("utf-8", "replace").strip()
        reason = printed or f"its driver ended with exit code {asked.returncode}"
        raise ConfigError(f"{place} cannot be used: {reason.rstrip('.')}. {_REMEDY}")


def answer() -> None:
    """What the process asks and prints: nothing, or why its one argument cannot be used."""
    try:
        filesystem, path = resolve(sys.argv[1])
        filesystem.get_file_info(path)
    except Exception as error:  # drivers have classes of their own
        sys.stdout.buffer.write(first_line(error).encode("utf-8", "backslashreplace"))
        sys.exit(1)
