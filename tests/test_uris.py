"""Secrets in URIs are refused, and never shown."""

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.errors import ConfigError
from reranker_batch.uris import SAFE_OPTIONS, options_of, problem_of, redacted, shown_uri, split_options


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://b/x?session=SECRET", "s3://b/x?session=***"),
        (
            "s3://b/x?region=eu&X-Amz-Security-Token=SECRET&scheme=http",
            "s3://b/x?region=eu&X-Amz-Security-Token=***&scheme=http",
        ),
        ("s3://KEY:SECRET@b/x", "s3://***@b/x"),
        ("s3://KEY:SEC/RET@b/x", "s3://***@b/x"),
        ("s3://KEY%3aSECRET@b/x", "s3://***@b/x"),
        ("https://SECRET@h/x", "https://***@h/x"),
        ("s3://b/x?endpoint_override=u:SECRET@h:1", "s3://b/x?endpoint_override=***"),
        ("s3://b/x?endpoint_override=http://u:SECRET@h:1", "s3://b/x?endpoint_override=http://***@h:1"),
        ("s3://b/x?endpoint_override=h:1&region=eu", "s3://b/x?endpoint_override=h:1&region=eu"),
        ("abfss://c@a.dfs.core.windows.net/x", "abfss://c@a.dfs.core.windows.net/x"),
        ("hdfs://n:8020/a@b.parquet", "hdfs://n:8020/a@b.parquet"),
        ("/a?session=1", "/a?session=1"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown
    text = f"When reading '{uri}': denied (http://u:SECRET@proxy:1/)"
    assert redacted(text) == f"When reading '{shown}': denied (http://***@proxy:1/)"
    assert str(ConfigError(text)) == redacted(text)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/x?session=S",
        "s3://b/x?S=",
        "gs://b/x?key=S",
        "s3://b/?ay=1/x",
        "https://h/x?v=1",
        "s3://u@b/x",
        "s3://b/x?scheme=http&S=1",
    ],
)
def test_a_uri_with_an_option_that_is_not_known_is_refused(uri: str) -> None:
    assert problem_of(uri) is not None


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/x?region=eu&endpoint_override=h%3A1&scheme=http",
        "s3://b/part-?.parquet",
        "s3://b/x?tls_ca_file_path=/etc/ca.pem",
        "hf://datasets/a/b@refs/convert/x",
        "abfss://c@a.dfs.core.windows.net/x?enable_tls=false",
    ],
)
def test_known_options_and_wildcards_are_no_problem(uri: str) -> None:
    assert problem_of(uri) is None


def test_options_are_cut_off_a_uri_alone() -> None:
    assert split_options("s3://b/x?region=eu") == ("s3://b/x", "?region=eu")
    assert split_options("s3://b/p-?.parquet?region=eu") == ("s3://b/p-?.parquet", "?region=eu")
    assert split_options("/x?region=eu") == ("/x?region=eu", "")
    assert options_of("s3://b/x?endpoint_override=http%3A//h:1&region=eu") == {
        "endpoint_override": "http://h:1",
        "region": "eu",
    }


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}", fullmatch=True).filter(lambda name: name not in SAFE_OPTIONS)


@fuzzed
@given(name=NAMES, lead=st.sampled_from(["?", "?region=eu&", "?scheme=http&region=x&"]), before=st.text(max_size=20))
def test_the_value_of_an_unknown_option_is_never_shown(name: str, lead: str, before: str) -> None:
    uri = f"s3://bucket/some/path{lead}{name}=S3CR3T"
    assert "S3CR3T" not in redacted(f"{before} {uri}: failed")
    assert "S3CR3T" not in shown_uri(uri)
    problem = problem_of(uri)
    assert problem is not None
    assert "S3CR3T" not in problem
