"""What reaches a terminal or a log: escaped, without secrets, and never a reason for a run to fail."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO, cast

from reranker_batch.errors import ConfigError
from reranker_batch.uris import redacted

LEVEL_VARIABLE = "RERANKER_BATCH_LOG"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, marks that turn the direction of text, invisible tags and lone surrogates."""
_UNINDENTED = re.compile(r"\n(?=\S)")


def printable(text: str) -> str:
    """The text with control characters escaped and further lines indented, so that none poses as a message of its own.

    Bytes of a file name that are not UTF-8 appear as `\\xff`.
    """
    return _UNINDENTED.sub("\n  ", _UNSAFE.sub(_escaped, text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def listed(items: Sequence[str], *, most: int = 5, separator: str = ", ") -> str:
    """The first few items, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def say(text: str) -> None:
    """Print to standard output. Never raises."""
    _write(printable(redacted(text)) + "\n", sys.stdout)


def complain(text: str) -> None:
    """Print to standard error. Never raises."""
    _write(printable(redacted(text)) + "\n", sys.stderr)


def show_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a table of names and values to standard output. Never raises."""
    show_table(title, [], rows)


def show_table(title: str, header: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table to standard output; without a header the first column is bold. Never raises."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, title=Text(printable(redacted(title))), show_header=bool(header), title_justify="left")
    if not header:
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(redacted(value))) for value in row))
    Console(file=steady(sys.stdout)).print(table)


def _write(text: str, stream: TextIO | None) -> None:
    """A stream that cannot be written to (closed pipe, full disk) is not used again."""
    if stream is None:
        return
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError):
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Lead the stream to nowhere, so that what is left in its buffer raises nothing at the end of the process."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def steady(stream: TextIO | None) -> TextIO | None:
    """The stream with writes that never raise, for libraries that write on their own, such as a progress bar."""
    return None if stream is None else cast(TextIO, _SteadyStream(stream))


class _SteadyStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        _write(text, self._stream)
        return len(text)

    def flush(self) -> None:
        return

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


class PrintableFormatter(logging.Formatter):
    """Escapes and redacts the whole record, traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redacted(super().format(record)))


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # a wrong log call must not end a run
            text = printable(f"{record.levelname} {record.name}: {record.msg}")
        _write(text + "\n", sys.stderr)


def set_up_logging() -> None:
    """Log to standard error at the level that RERANKER_BATCH_LOG names.

    Raises:
        ConfigError: It names no level.
    """
    level = os.environ.get(LEVEL_VARIABLE, "").strip().upper() or "WARNING"
    if level not in _LEVELS:
        raise ConfigError(f"{LEVEL_VARIABLE}={os.environ[LEVEL_VARIABLE]!r} is no level. Use {', '.join(_LEVELS)}.")
    log_to_stderr(getattr(logging, level))


def log_to_stderr(level: int) -> None:
    """Print log records from this level on, of libraries only from WARNING on."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        handler = _StderrHandler()
        handler.setFormatter(PrintableFormatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    root.setLevel(max(logging.WARNING, level))
    logging.getLogger("reranker_batch").setLevel(level)
