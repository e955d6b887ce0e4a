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
