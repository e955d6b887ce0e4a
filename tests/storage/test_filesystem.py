"""Where paths and URIs lead, and which are refused."""

import os
import pickle
import uuid
from pathlib import Path

import fsspec
import pytest
from pyarrow import fs

from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.files.filesystem import Folder, absolute, join, resolve
from reranker_batch.storage.input.listing import list_input

NAMES = ["a b.parquet", "p%20q.parquet", "ü-日本.parquet", "x=1/lang=de/f.parquet", "[1].parquet", "a+b&c#d.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_a_local_path_is_taken_literally(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    filesystem, path = resolve(str(file))
    assert filesystem.get_file_info(path).size == 1
    assert [found.path for found in list_input(str(file)).files] == [file.name]


def test_relative_paths_and_home_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("data/in") == str(tmp_path / "data/in")
    assert resolve("~/x")[1] == str(tmp_path / "x")
    assert Folder.at("out").uri == str(tmp_path / "out")


def test_a_folder_travels_as_text(tmp_path: Path) -> None:
    folder = pickle.loads(pickle.dumps(Folder(str(tmp_path))))
    assert folder.child("scores", "part-x.parquet") == f"{tmp_path}/scores/part-x.parquet"
    assert isinstance(folder.filesystem, fs.LocalFileSystem)


@pytest.mark.parametrize("name", ["a b", "a%20b", "what?x=1", "ü", "a+b&c#d"])
def test_a_folder_inside_is_the_one_that_a_listing_shows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for folder in (Folder.at(str(tmp_path)), Folder.at(f"file://{tmp_path}")):
        assert folder.folder(name).path == str(tmp_path / name)
    assert Folder("s3://bucket/a?region=eu").folder("b").uri == "s3://bucket/a/b?region=eu"
    assert Folder("s3://bucket").folder("b").uri == "s3://bucket/b"


def test_a_file_uri_may_escape_characters_or_not(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    for name in ["a b", "a%20b"]:
        assert resolve(f"file://{tmp_path}/{name}")[1] == str(tmp_path / "a b")


def test_a_folder_that_cannot_be_written_is_refused_and_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Folder.at(str(tmp_path / "new" / "deeper")).refuse_unwritable()
    for inner, why in [("file", "file is a file"), ("file/out", "file is a file"), ("x" * 300, "name too long")]:
        with pytest.raises(ConfigError, match=f"cannot be written: .*{why}"):
            Folder.at(str(tmp_path / inner)).refuse_unwritable()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(ConfigError, match="is read-only for this user"):
        Folder.at(str(tmp_path / "out")).refuse_unwritable()


def test_a_scheme_that_only_fsspec_knows_is_used() -> None:
    filesystem, path = resolve(f"memory://{uuid.uuid4().hex}")
    filesystem.create_dir(path)
    with filesystem.open_output_stream(join(path, "f")) as sink:
        sink.write(b"abc")
    assert fsspec.filesystem("memory").cat(join(path, "f")) == b"abc"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:SECRET@bucket/x",
        "s3://KEY:SEC/RET@bucket/x",
        "https://SECRET@host/x",
        "abfss://c@account.dfs.core.windows.net/x?sig=SECRET",
        "s3://bucket/x?secret_key=SECRET",
        "s3://bucket/x?region=eu&X-Amz-Security-Token=SECRET",
    ],
)
def test_a_uri_with_a_secret_is_refused_without_showing_it(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(uri)
    assert "SEC" not in str(caught.value)
    assert "RET" not in str(caught.value)
    assert "environment" in str(caught.value)


def test_an_account_name_and_a_port_are_no_secrets() -> None:
    assert resolve("abfss://container@account.dfs.core.windows.net/p")[1] == "container/p"
    with pytest.raises(ConfigError, match="hdfs"):  # the driver is missing, not the URI refused
        resolve("hdfs://namenode:8020/a@b.parquet")


@pytest.mark.parametrize(("uri", "message"), [("oss://b/x", "ossfs"), ("nope://b/x", "no filesystem known")])
def test_a_missing_driver_is_named(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(uri)


def test_builtin_tables_have_the_same_root_on_every_machine() -> None:
    listing = list_input("builtin:demo")
    assert listing.root == "builtin:"
    assert [file.path for file in listing.files] == ["demo.parquet"]
    with pytest.raises(ConfigError, match="builtin:demo"):
        resolve("builtin:other")


FILES = [
    "part-1.parquet",
    "part-2.parquet",
    "part-10.pq",
    "notes.csv",
    "_SUCCESS",
    ".hidden.parquet",
    "_temporary/z.parquet",
    "lang=de/day=1/a.parquet",
    "w[1]/k.parquet",
    "w1/k.parquet",
]
CASES = {
    "": ["lang=de/day=1/a.parquet", "part-1.parquet", "part-10.pq", "part-2.parquet", "w1/k.parquet", "w[1]/k.parquet"],
    "/lang=de": ["day=1/a.parquet"],
    "/part-1.parquet": ["part-1.parquet"],
    "/part-?.parquet": ["part-1.parquet", "part-2.parquet"],
    "/*.p*q*": ["part-1.parquet", "part-10.pq", "part-2.parquet"],
    "/part-[!1]*": ["part-2.parquet"],
    "/lang=*": ["lang=de/day=1/a.parquet"],
    "/**/*.parquet": [
        "lang=de/day=1/a.parquet",
        "part-1.parquet",
        "part-2.parquet",
        "w1/k.parquet",
        "w[1]/k.parquet",
    ],
    "/lang=de/**": ["day=1/a.parquet"],
    "/*/k.parquet": ["w1/k.parquet", "w[1]/k.parquet"],
    "/w[1]/*": ["w1/k.parquet"],
    "/_temporary/*": ["z.parquet"],
}


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
@pytest.mark.parametrize("pattern", CASES)
def test_files_folders_and_globs_are_listed_in_order(tmp_path: Path, scheme: str, pattern: str) -> None:
    base = f"memory://{uuid.uuid4().hex}" if scheme == "memory://" else str(tmp_path)
    store = fsspec.filesystem("memory" if scheme == "memory://" else "file")
    for name in FILES:
        store.makedirs(f"{base}/{name}".rpartition("/")[0], exist_ok=True)
        store.pipe_file(f"{base}/{name}", b"x")
    listing = list_input((base if scheme == "memory://" else scheme + base) + pattern)
    assert [file.path for file in listing.files] == CASES[pattern]
    filesystem, root = resolve(listing.root)
    assert all(filesystem.get_file_info(join(root, file.path)).size == 1 for file in listing.files)


def test_what_exists_by_name_wins_over_the_pattern(tmp_path: Path) -> None:
    for name in ["w[1]", "w1"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.parquet").write_bytes(b"x")
    assert [file.path for file in list_input(f"{tmp_path}/w[1]").files] == ["w[1].parquet"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "does not exist"), ("*.parquet", "matches no file"), ("", "holds no"), ("[z-a]", "pattern")],
)
def test_an_input_without_files_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        list_input(f"{tmp_path}/{name}")
