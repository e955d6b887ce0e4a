import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch import JobConfig, LabelConfig
from reranker_batch.config import Columns, ColumnsConfig
from reranker_batch.errors import ConfigError

LEAST: dict[str, Any] = {"input": {"path": "in"}, "model": {"name": "m"}, "output": {"path": "out"}}
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    (LabelConfig if path.name == "label.yaml" else JobConfig).load(path)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_defaults_are_those_of_the_documentation() -> None:
    config = JobConfig.of(LEAST)
    assert config.input.layout == "nested"
    assert config.limits.profile == "gte-rerank-v2"
    assert config.model.dtype == config.model.device == config.batching.max_batch_tokens == "auto"
    assert (config.ranking.top_n, config.output.layout, config.output.max_failed) == (None, "pairs", 0)


def test_overrides_win_and_are_read_by_the_type_of_their_key(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {path: in}\nmodel: {name: m, revision: abc}\noutput: {path: out}\n")
    overrides = ["ranking.top_n=5", "model.revision=null", "input.columns.passthrough=[a, b]", "output.path=x=y"]
    config = JobConfig.load(path, overrides=overrides)
    assert config.ranking.top_n == 5
    assert config.model.revision is None
    assert config.input.columns.passthrough == ["a", "b"]
    assert config.output.path == "x=y"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inptu": {}}, "inptu: unknown key. Did you mean input\\? Known here: input, prepare, model, limits"),
        ({"model": {"name": "m", "dtyp": "auto"}}, "model.dtyp: unknown key. Did you mean dtype\\?"),
        ({"input": {}}, "input.path: this key is required"),
        ({"ranking": {"top_n": 0}}, "ranking.top_n: .*greater than or equal to 1 \\(seen: 0\\)"),
        ({"output": {"path": "o", "max_failed": -1}}, "output.max_failed: .*greater than or equal to 0"),
        ({"model": {"name": "m", "revision": ""}}, "model.revision: .*at least 1 character"),
        ({"input": {"path": " "}}, "input.path: this is empty"),
        ({"input": {"path": "a\0b"}}, r"input.path: 'a\\x00b' is not valid text"),
        ({"model": "bge"}, "model: this is a section: give its keys below it"),
        ({"ranking": {"top_n": 1 << 40}}, "ranking.top_n: .*less than or equal to 2147483647"),
        ({"runtime": {"no_progress_timeout_s": float("inf")}}, "no_progress_timeout_s: .*finite"),
        ({"max-failed": 1}, r"max-failed: unknown key. Did you mean output\.max_failed\?"),
        ({"top_n": 1}, r"top_n: unknown key. Did you mean ranking\.top_n\?"),
        ({"output": {"path": "o", "top_n": 1}}, r"output.top_n: unknown key. Did you mean ranking\.top_n\?"),
        ({f"k{number}": 1 for number in range(1000)}, "and 980 more"),
        ({"ranking": {"top_n": "5"}}, "ranking.top_n: .*integer \\(seen: '5'\\)"),
        ({"output": {"path": "o", "max_failed": "few"}}, "'few' is neither a count nor a share"),
        ({"runtime": {"min_replicas": 3, "max_replicas": 2}}, "max_replicas=2 is below min_replicas=3"),
        ({"runtime": {"engine": "local", "min_replicas": 2}}, "engine=local has one replica, min_replicas=2"),
        ({"runtime": {"engine": "local", "ray_address": "auto"}}, "engine=local uses no Ray, ray_address='auto'"),
        (
            {"batching": {"max_batch_tokens": 256}, "limits": {"max_pair_tokens": 512}},
            "batching.max_batch_tokens=256 is below limits.max_pair_tokens=512, so a full-length pair would never fit",
        ),
        ({"runtime": {"gpus_per_replica": 1.5}}, "gpus_per_replica: 1.5 is not possible: above 1 it is a whole number"),
        (
            {"model": {"name": "m", "device": "cpu"}, "runtime": {"gpus_per_replica": 0.5}},
            "runtime.gpus_per_replica=0.5 contradicts model.device=cpu",
        ),
        (
            {"model": {"name": "m", "device": "cuda"}, "runtime": {"gpus_per_replica": 0}},
            "runtime.gpus_per_replica=0 contradicts model.device=cuda",
        ),
        ({"report": {"compare_with": "latest: "}}, "report.compare_with: this is empty"),
        ({"report": {"compare_with": "latest:s3://bucket/nights?secret_key=x"}}, "report.compare_with: "),
        ({"gates": {"max_queries_changed": "30%"}}, "max_queries_changed needs an earlier output: set report.compare"),
        ({"gates": {"min_overlap_at_10": 0.6}}, "min_overlap_at_10 needs an earlier output: set report.compare_with"),
        ({"gates": {"min_ndcg_at_10": 0.3}}, "min_ndcg_at_10 needs relevance judgments: set report.qrels"),
        ({"gates": {"min_ndcg_at_10": 1.1}}, "gates.min_ndcg_at_10: .*less than or equal to 1"),
        ({"gates": {"max_truncated": "101%"}}, "gates.max_truncated: .*'101%' is no share like '30%'"),
        ({"gates": {"max_truncated": "few"}}, "gates.max_truncated: .*'few' is no share like '30%'"),
        ({"gates": {"max_truncated": 5}}, "gates.max_truncated: .*string"),
        ({"input": {"path": "in", "columns": {"passthrough": ["rank"]}}}, "rank: a column of the output has this name"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobConfig.of(LEAST | change)


GOOD = "input: {path: in}\nmodel: {name: m}\noutput: {path: out}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input: [", "line 1 is not YAML"),
        ("- a\n", "must hold sections"),
        ("", "must hold sections"),
        ("input: {path: in}\n", "model: this key is required"),
        (GOOD + "input: {path: b}\n", "line 4: 'input' is there twice, first in line 1"),
        ("input:\n  path: a\n  layout: pairs\n  path: b\n", "line 4: 'path' is there twice, first in line 2"),
        ("input:\n  path: *.parquet\n", r"line 2 .* needs quotes: path: '\*\.parquet'$"),
        ("input:\n  path: *data\n", r"line 2 .* needs quotes: path: '\*data'$"),
        ("input:\n  path: {day}/x\n", r"line 2 .* needs quotes: path: '{day}/x'$"),
        ("input:\n  path: a: b\n", "line 2 .* needs quotes: path: 'a: b'$"),
        ("input:\n  path: !x b\n", "line 2 .*Tags.* have no place here"),
        ('input:\n  path: "x\nmodel: {name: m}\n', "line 2 .*quotes and brackets are closed"),
        ("input:\n\tpath: x\n", "line 2 .*Indent with spaces"),
        (GOOD + "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 4 .*Anchors .* have no place here"),
        (GOOD + "a: " + "[" * 10_000, "line 4 .*nested too deeply"),
        (GOOD + "# " + "x" * 300_000, "is larger than 256 KiB"),
        (GOOD + "---\na: b\n", "line 4 is not YAML"),
        (GOOD + "? [a]\n: b\n", "line 4: a key must be a name"),
        ('input: {path: "\\UFFFFFFFF"}\n', "an escape in quotes is no character"),
        ("input: {path: a\0b}\n", "line 1: the character U\\+0000 is not allowed"),
        (GOOD + "ranking: {top_n: 010}\n", "ranking.top_n: .*'010'; write it in plain decimal digits"),
        (GOOD + "ranking: {top_n: 1:30}\n", "ranking.top_n: .*'1:30'"),
        (GOOD + "ranking: {top_n: 0x10}\n", "ranking.top_n: .*'0x10'"),
        (GOOD + "limits: {max_documents: 1,000}\n", "limits.000: unknown key"),
        (GOOD.replace(": out", ": "), "output.path: a value is required"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobConfig.load(write(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_may_be_marked_as_utf_8_or_utf_16(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "job.yaml").write_bytes(GOOD.replace(": out", ": größe").encode(encoding))
    assert JobConfig.load(tmp_path / "job.yaml").output.path == "größe"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.replace(": out", ": größe").encode("latin-1"), "line 3: this is not UTF-8 text"),
        (GOOD.encode("utf-16-le"), r"line 1: the character U\+0000"),
        (b"\x80\x04\x95", "line 1: this is not UTF-8 text"),
    ],
    ids=["latin-1", "utf-16 without a mark", "binary"],
)
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "job.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        JobConfig.load(tmp_path / "job.yaml")


def test_unquoted_values_of_a_file_are_read_by_the_type_of_their_key(tmp_path: Path) -> None:
    text = """
input: {path: 2026-13-45, columns: {query: 010, query_id: ~, passthrough: [1:30, no, 1e3]}}
model: {name: 1234567, revision: 2026-11-25, instruct: null}
output: {path: "\\ud83d\\ude00", max_failed: 3}
ranking:
runtime: {start_timeout_s: 1e3, max_replicas: 1_000, no_progress_timeout_s: 60}
"""
    config = JobConfig.load(write(tmp_path, text))
    assert (config.input.path, config.input.columns.query, config.input.columns.query_id) == ("2026-13-45", "010", None)
    assert config.input.columns.passthrough == ["1:30", "no", "1e3"]
    assert (config.model.name, config.model.revision, config.model.instruct) == ("1234567", "2026-11-25", None)
    assert (config.output.path, config.output.max_failed) == ("\U0001f600", 3)
    assert (config.runtime.start_timeout_s, config.runtime.max_replicas) == (1000.0, 1000)
    assert config.ranking.top_n is None


@pytest.mark.parametrize(
    "text",
    [
        "out/run #3",
        "010",
        "2026-11-25",
        "2026-13-45",
        "*.parquet",
        "null",
        "1:30",
        "true",
        "a: b",
        "{x}",
        "'q'",
        " a=b",
    ],
)
def test_an_override_of_text_is_taken_as_it_stands(tmp_path: Path, text: str) -> None:
    config = JobConfig.load(write(tmp_path, GOOD), overrides=[f"output.path={text}", f"input.path={text}x"])
    assert config.output.path == text
    assert config.input.path == text + "x"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("model.revision=null", None),
        ("model.revision=1234567", "1234567"),
        ("model.revision=0123456", "0123456"),
        ("output.max_failed=3", 3),
        ("output.max_failed=0.1%", "0.1%"),
        ("ranking.return_documents=True", True),
        ("ranking.top_n= 7 ", 7),
        ("ranking.top_n=null", None),
        ("batching.max_batch_tokens=auto", "auto"),
        ("batching.max_batch_tokens=512", 512),
        ("runtime.gpus_per_replica=0.5", 0.5),
        ("runtime.gpus_per_replica=1", 1),
        ("input.columns.passthrough=a", ["a"]),
        ("input.columns.passthrough=a,b", ["a", "b"]),
        ("input.columns.passthrough=['a, b', null, 010]", ["a, b", "null", "010"]),
        ("input.columns.passthrough=[]", []),
        ("input.columns.passthrough=", []),
        ("input.columns.document=text", "text"),
        ("input.columns.document=doc.contents", "doc.contents"),
        ("input.columns.document=[title,text]", ["title", "text"]),
        ("input.columns.document=[2, '3', 04]", [2, "3", "04"]),
        ("input.columns.candidates=[positive, 'a, b']", ["positive", "a, b"]),
        ("input.columns.query=3", 3),
        ("input.columns.query_id=0", 0),
        ("input.columns.doc_id=null", None),
        ("input.columns.separator= | ", " | "),
        ("input.columns.separator=", ""),
        ("input.format=tevatron", "tevatron"),
    ],
)
def test_an_override_is_read_by_the_type_of_its_key(tmp_path: Path, override: str, value: object) -> None:
    found: Any = JobConfig.load(write(tmp_path, GOOD), overrides=[override])
    for name in override.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value


def test_of_two_overrides_of_one_key_the_last_wins(tmp_path: Path) -> None:
    config = JobConfig.load(write(tmp_path, GOOD), overrides=["ranking.top_n=3", "ranking.top_n=null"])
    assert config.ranking.top_n is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ranking.top_n", "not of the form section.key=value"),
        ("=3", "not of the form"),
        ("ranking..top_n=3", "not of the form"),
        ("output.path=", "output.path: this is empty"),
        ("ranking.top_n=010", "ranking.top_n: .*'010'"),
        ("ranking.top_n=", "ranking.top_n: .*integer"),
        ("ranking.top_n=" + "9" * 10_000, "ranking.top_n: .*integer .seen: '999"),
        ("runtime.start_timeout_s=nan", "start_timeout_s: .*number"),
        ("output=x", r"--set output names a section. Set one of its keys: output\.path"),
        ("input.columns={query: q}", "input.columns names a section"),
        ("rankng.top_n=3", r"--set rankng.top_n: unknown key. Did you mean ranking\?"),
        ("output.max-failed=3", r"Did you mean max_failed\?"),
        ("max_failed=3", r"Did you mean output\.max_failed\?"),
        ("input.path.x=3", "input.path is a key, not a section"),
        ("input.columns.passthrough=[a", "passthrough, line 1 is not YAML"),
        ("input.columns.passthrough=[[a]]", "no list of names"),
        ("input.columns.passthrough=a,,b", "passthrough.1: .*at least 1 character"),
        ("input.columns.query=-1", "input.columns.query"),
        ("input.columns.document=[]", "document: .*at least 1 item"),
        ("input.columns.document=[a, a]", "a column stands there twice"),
        ("input.columns.candidates=[[a]]", "no list of names"),
        ("input.format=tevatrn", "input.format: .*'tevatron'"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        JobConfig.load(write(tmp_path, GOOD), overrides=[override])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["input.path", "output.path", "model.name", "runtime.ray_address"])
@pytest.mark.parametrize(
    "value",
    ["s3://b/x?session=SECRET", "s3://KEY:SECRET@b/x", "s3://b/x?endpoint_override=u:SECRET@h", "https://h/x?SECRET"],
)
def test_a_secret_in_a_uri_is_refused_and_not_shown(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match="URI has") as caught:
        JobConfig.load(write(tmp_path, GOOD), overrides=[f"{key}={value}"])
    assert "SECRET" not in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent.yaml cannot be read: No such file"):
        JobConfig.load(tmp_path / "absent.yaml")


KEYS = ["input", "path", "columns", "passthrough", "query", "model", "name", "revision", "output", "max_failed"]
KEYS += ["ranking", "top_n", "runtime", "min_replicas", "start_timeout_s", "max-failed", "x", "", "<<", "1", "~", "a.b"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.binary(max_size=8),
    st.text(max_size=20),
    st.sampled_from(
        ["auto", "pairs", "null", "010", "1:30", "0.1%", "2026-13-45", "s3://b/x?y=z", "1" * 5000, "x" * 9999]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner, max_size=4),
    max_leaves=12,
)
SECTIONS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)
LINES = st.text(alphabet=st.sampled_from(list("ab:-?*&!|>'\"%@`{}[],#\n\t ~\\\r\0é\u2028\U0001f600.01")), max_size=60)


def ends_well(load: Callable[[], JobConfig]) -> None:
    """In a config, or in one clear message."""
    try:
        load()
        return
    except ConfigError as error:
        message = str(error)
    assert 20 < len(message) < 8000
    assert not re.search("while (scanning|parsing)|expected <|found '|pydantic|Traceback", message)


@fuzzed
@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, SECTIONS | SCALARS)), has_flow=st.booleans())
def test_any_yaml_values_end_in_a_config_or_a_message(
    values: dict[str, Any], has_flow: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_text(yaml.safe_dump(values, default_flow_style=has_flow, allow_unicode=True), encoding="utf-8")
    ends_well(lambda: JobConfig.load(path))
    ends_well(lambda: JobConfig.of(values))


@fuzzed
@given(content=st.binary(max_size=80) | LINES.map(lambda text: (GOOD + text).encode()) | LINES.map(str.encode))
def test_any_bytes_end_in_a_config_or_a_message(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(content)
    ends_well(lambda: JobConfig.load(path))


@fuzzed
@given(
    key=st.lists(st.sampled_from(KEYS), max_size=3).map(".".join) | st.text(max_size=10),
    value=st.text(max_size=30) | LINES | st.sampled_from(["1" * 5000, "[a, b]", "[", "{}", "*a", "\udcff"]),
    separator=st.sampled_from(["=", "=", "=", "", " = ", "=="]),
)
def test_any_override_ends_in_a_config_or_a_message(
    key: str, value: str, separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    ends_well(lambda: JobConfig.load(path, overrides=[key + separator + value]))


@fuzzed
@given(
    value=st.text(min_size=1, max_size=40).filter(lambda text: text.strip() and "\0" not in text and "://" not in text)
)
def test_any_text_of_an_override_arrives_as_it_is(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert JobConfig.load(path, overrides=[f"output.path={value}"]).output.path == value


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@fuzzed
@given(instruct=st.none() | TEXTS, names=st.lists(TEXTS.map("x_".__add__), unique=True))
def test_a_config_as_yaml_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, instruct: str | None, names: list[str]
) -> None:
    values = {
        "input": {"path": "in", "columns": {"passthrough": names}},
        "model": {"name": "0x10", "instruct": instruct},
    }
    config = JobConfig.of({**values, "output": {"path": "2026-11-25", "max_failed": "0.1%"}})
    assert JobConfig.load(write(tmp_path_factory.mktemp("config"), config.to_yaml())) == config


def test_columns_of_a_file_are_names_paths_positions_and_lists(tmp_path: Path) -> None:
    text = "input: {path: in, columns: {query_id: 0, query: '1', document: [3, title, '4'], candidates: [a, b]}}"
    columns = JobConfig.load(write(tmp_path, f"{text}\nmodel: {{name: m}}\noutput: {{path: out}}\n")).input.columns
    assert (columns.query_id, columns.query, columns.document) == (0, "1", [3, "title", "4"])
    assert columns.has_positions
    assert columns.plain() is None


@pytest.mark.parametrize(
    "values", [{"candidates": ["a", "b"]}, {"document": ["title", "text"]}, {"query": 0}, {"document": ["title", 1]}]
)
def test_columns_that_are_not_names_alone_are_not_plain(values: dict[str, Any]) -> None:
    assert ColumnsConfig(**values).plain() is None
    assert ColumnsConfig(query="q", separator="|").plain() == Columns(query="q")


def test_a_passthrough_may_not_hide_the_name_of_the_list() -> None:
    with pytest.raises(ConfigError, match="list is the column with the name of a candidate's list"):
        JobConfig.of({**LEAST, "input": {"path": "in", "columns": {"candidates": ["a"], "passthrough": ["list"]}}})
