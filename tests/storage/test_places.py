"""An output that the input would read is refused, and a store that does not answer is named in time."""

import socket
from pathlib import Path

import pytest

from reranker_batch.errors import ConfigError
from reranker_batch.storage.files.places import check_access, refuse_overlap


@pytest.mark.parametrize(
    ("source", "goal"),
    [
        ("in", "in"),
        ("in", "in/out"),
        ("in", "./in/../in/out/"),
        ("in/", "link/out"),
        ("link", "in/out"),
        ("in", "file://ROOT/in/out"),
        ("out/scores", "out"),
        ("out/*.parquet", "out"),
        ("in/*", "in/out"),
        ("in/**", "in/a/out"),
        ("in/**/*.parquet", "in/a/out"),
        ("*/scores/*", "out"),
        ("i?/a", "in/a/b"),
        ("in/*/*/*.parquet", "in/a"),
        ("s3://b/in", "s3a://b/in/out?region=eu"),
        ("s3://b/in?region=eu", "s3://b//in/"),
        ("s3://b/in/**", "s3://b/in/out"),
        ("abfs://c@a.dfs.core.windows.net/in", "abfss://c@a.dfs.core.windows.net/in/out"),
    ],
)
def test_an_output_that_the_input_would_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, goal: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    with pytest.raises(ConfigError, match="could not be resumed"):
        refuse_overlap(source, goal.replace("ROOT", str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "goal"),
    [
        ("in", "out"),
        ("in", "in-out"),
        ("in.parquet", "out"),
        ("in/*.parquet", "in/out"),
        ("in/part-*", "in/out"),
        ("in/a/*", "in/out"),
        ("in", "in/_out"),
        ("in/[1]", "in/1"),
        ("builtin:demo", "out"),
        ("s3://b/in", "s3://b/out"),
        ("s3://b/in", "s3://c/in/out"),
        ("s3://b/in", "gs://b/in/out"),
        ("s3://b/in", "in/out"),
    ],
)
def test_an_output_elsewhere_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, goal: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "[1]").mkdir(parents=True)
    refuse_overlap(source, goal)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "s3://b/x?region=us-east-1&endpoint_override=127.0.0.1:PORT&scheme=http",
            "cannot be used: .*NETWORK_CONNECTION",
        ),
        ("abfss://c@127.0.0.1:PORT/x", "cannot be"),
        ("abfss://c@h/x", "cannot be used: "),
        ("memory://x/y", None),
        ("nope://b/x", "no filesystem known"),
        ("/absent", None),
    ],
)
def test_a_place_that_cannot_be_reached_is_one_message(
    monkeypatch: pytest.MonkeyPatch, place: str, message: str | None
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        place = place.replace("PORT", str(unused.getsockname()[1]))
        if message is None:
            check_access(place)
        else:
            with pytest.raises(ConfigError, match=message) as caught:
                check_access(place)
            assert "\n" not in str(caught.value)


def test_a_store_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"s3://b/x?region=us-east-1&endpoint_override=127.0.0.1:{silent.getsockname()[1]}&scheme=http"
        with pytest.raises(ConfigError, match=r"did not answer within 3 seconds. Check the address"):
            check_access(place, longest_wait_s=3)
