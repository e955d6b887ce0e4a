"""What reaches a terminal: nothing that moves its cursor, nothing secret, and no failure."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.printing import PrintableFormatter, listed, printable

ROOT = Path(__file__).parents[1]
LEGAL = {"\n", "\t"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 日本 👍🏽 a\tb", "größe 日本 👍🏽 a\tb"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\rb", r"a\x0db"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj.\u202etxt", r"gpj.\u202etxt"),
        ("a\u2028b", r"a\u2028b"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("\udcff.parquet", r"\xff.parquet"),
        ("\ud800", r"\ud800"),
        ("a\nerror: b\n  c", "a\n  error: b\n  c"),
    ],
)
def test_control_characters_are_escaped_and_further_lines_indented(text: str, shown: str) -> None:
    assert printable(text) == shown


@fuzzed
@given(st.text(alphabet=st.characters() | st.sampled_from("\x1b\x07\r\n\u202e\u2066\udc80\x85"), max_size=60))
def test_nothing_that_is_printed_can_act_on_a_terminal(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert all(char in LEGAL or (ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0) for char in shown)
    assert not any(line[:1].strip() for line in shown.split("\n")[1:])
    assert not set(shown) & set("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert printable(shown) == shown


def test_a_log_record_is_escaped_and_redacted_with_its_traceback() -> None:
    try:
        raise ValueError("column \x1b[2J\nWARNING all is well, s3://b/x?session=SECRET")
    except ValueError:
        record = logging.LogRecord("here", logging.WARNING, "f.py", 1, "%s\r", ("\x07",), sys.exc_info())
    shown = PrintableFormatter("%(levelname)s %(name)s: %(message)s").format(record)
    assert shown.startswith("WARNING here: \\x07\\x0d\n  Traceback")
    assert not {"\x1b", "\x07", "\r"} & set(shown)
    assert "\nWARNING" not in shown
    assert "SECRET" not in shown


CODE = """
import sys
from reranker_batch.printing import complain, say, show_rows, steady
show_rows("T\\x1b", [("größe \\udcff", "[bold]\\x1b[2J")])
say("größe")
complain("größe")
print("more", file=steady(sys.stdout))
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("redirection", "encoding"),
    [("", "utf-8"), ("", "ascii"), (">&- 2>&-", "utf-8"), (">/dev/full 2>/dev/full", "utf-8"), ("| true", "utf-8")],
    ids=["utf-8", "ascii", "closed", "full", "closed pipe"],
)
def test_output_that_cannot_be_written_changes_no_exit_code(redirection: str, encoding: str) -> None:
    ended = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}', sys.executable, CODE],
        capture_output=True,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert ended.returncode == 7, ended.stderr
    assert b"Traceback" not in ended.stderr
    if not redirection:
        assert b"[bold]\\x1b[2J" in ended.stdout
        assert ("größe" if encoding == "utf-8" else r"gr\xf6\xdfe").encode() in ended.stdout
        assert b"\x1b" not in ended.stdout


def test_a_stream_that_was_closed_is_written_to_without_effect() -> None:
    from reranker_batch.printing import steady

    closed = io.StringIO()
    closed.close()
    stream = steady(closed)
    assert stream is not None
    stream.write("x")
    stream.flush()
    assert steady(None) is None


def test_a_long_list_is_shown_by_its_first_items() -> None:
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(7)], most=5) == "0, 1, 2, 3, 4 and 2 more"
    assert listed(["a", "b", "c"], most=1, separator="\n  ") == "a and 2 more"
