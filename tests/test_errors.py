import inspect
import pickle

import pytest

from reranker_batch import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_errors_survive_the_way_between_processes(kind: type[errors.RerankerBatchError]) -> None:
    back = pickle.loads(pickle.dumps(kind("what, where, what to do", unit_id="00000-0000000000")))
    assert type(back) is kind
    assert str(back) == "what, where, what to do"
    assert back.unit_id == "00000-0000000000"


def test_a_row_error_keeps_its_reason() -> None:
    assert pickle.loads(pickle.dumps(errors.RowError("no text", reason_code="null_document"))).reason_code == (
        "null_document"
    )


def test_the_drawn_tree_names_every_class() -> None:
    for kind in CLASSES:
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("message", "line", "described"),
    [
        ("no such host.\nTraceback of a library\n  more", "no such host", "OSError: no such host"),
        ("\n  second line first  \nthird", "second line first", "OSError: second line first"),
        ("", "OSError", "OSError"),
        (" . ", "OSError", "OSError"),
        ("x" * 5000, "x" * 300, f"OSError: {'x' * 300}"),
    ],
    ids=["a full stop", "blank lines", "empty", "nothing but a stop", "long"],
)
def test_what_a_library_says_is_told_in_one_line(message: str, line: str, described: str) -> None:
    assert errors.first_line(OSError(message)) == line
    assert errors.described(OSError(message)) == described
