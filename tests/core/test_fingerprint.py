from reranker_batch.core.fingerprint import differences, fingerprint

SETTINGS = {"model": {"name": "a", "files": {"config.json": "12"}}, "ranking": {"top_n": 10}}


def test_the_order_of_keys_does_not_matter() -> None:
    reordered = {"ranking": {"top_n": 10}, "model": {"files": {"config.json": "12"}, "name": "a"}}
    assert fingerprint(SETTINGS) == fingerprint(reordered)


def test_any_value_changes_the_fingerprint() -> None:
    assert fingerprint(SETTINGS) != fingerprint(SETTINGS | {"ranking": {"top_n": 11}})


def test_differences_name_the_fields_with_both_values() -> None:
    changed = {"model": {"name": "b", "files": {}}, "ranking": {"top_n": None}, "extra": 1}
    assert differences(SETTINGS, changed) == [
        "extra: (absent) -> 1",
        'model.files.config.json: "12" -> (absent)',
        'model.name: "a" -> "b"',
        "ranking.top_n: 10 -> null",
    ]


def test_equal_settings_do_not_differ() -> None:
    assert differences(SETTINGS, dict(SETTINGS)) == []
