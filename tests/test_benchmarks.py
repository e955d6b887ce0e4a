"""The benchmarks: pairs come out the same everywhere and as long as promised, and a small race runs from end to end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu
import growth
import models
import numpy as np
import polars as pl
import prepare
import proofs
import pytest
import results
import run
import torch
import workloads
from contestants import Entry
from tokenizers import Tokenizer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ROOT / "reranker_batch" / "builtin" / "mini" / "tokenizer.json"))


@pytest.mark.parametrize("name", workloads.NAMES)
def test_pairs_are_as_long_as_promised_and_all_different(name: str, tokenizer: Tokenizer) -> None:
    workload = workloads.build(name, tokenizer, num_pairs=200, max_tokens=512)
    low, high = workloads.bounds_of(name, 512)
    assert low <= min(workload.tokens) < max(workload.tokens) <= high
    assert len(set(workload.pairs)) == 200
    assert workload.tokens == [len(tokenizer.encode(*pair).ids) for pair in workload.pairs]


def test_the_lengths_of_mixed_spread_over_the_whole_range(tokenizer: Tokenizer) -> None:
    tokens = sorted(workloads.build("mixed", tokenizer, num_pairs=500, max_tokens=512).tokens)
    assert tokens[25] < 60
    assert 110 < tokens[250] < 170
    assert tokens[475] > 400


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(tokenizer: Tokenizer) -> None:
    one, same, other = (
        workloads.build("mixed", tokenizer, num_pairs=60, max_tokens=512, seed=seed).pairs for seed in (0, 0, 1)
    )
    assert one == same
    assert not set(one) & set(other)


@pytest.mark.parametrize("text", ["ours", "ours:float8", "somebody:float32", "ours:float32:many"])
def test_an_entry_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="KIND:DTYPE"):
        Entry.parse(text)


def case(**seconds: list[float]) -> dict[str, Any]:
    return {
        "model": "m",
        "workload": "short",
        "pairs": 100,
        "tokens": 900,
        "flops": 4e9,
        "peaks": {"float32": [1e9, 2e9]},
        "entries": {
            f"{name}:float32": {"seconds": times, "computed_tokens": 1000, "peak_memory_bytes": 2**30, "versions": {}}
            for name, times in seconds.items()
        },
        "left_out": {"vllm:float32": "not set up"},
    }


def test_ratios_are_taken_round_by_round() -> None:
    """A slow round slows both; a ratio of medians would mix rounds."""
    measured = case(crossencoder=[2.0, 8.0, 4.0], ours=[1.0, 4.0, 4.0])
    assert results.ratios(measured, "ours:float32", "crossencoder:float32") == [2.0, 2.0, 1.0]
    assert results.pace(measured, "ours:float32") == 25.0
    assert results.share_of_peak(measured, "ours:float32") == 0.5
    assert results.padding(measured, "ours:float32") == pytest.approx(0.1)
    assert "Left out: `vllm:float32`: not set up" in results.case_section(measured)


def test_the_start_of_a_job_is_taken_off_its_pace() -> None:
    """Starting takes 10 s; then ours scores 10 pairs a second, the script 5, and the scorer alone 12.5."""
    sizes = {"start": 0, "1x": 100, "16x": 1600}
    found = {
        name: {
            "pairs": size,
            "tokens": 9 * size,
            "seconds": {"ours": [10 + size / 10] * 2, "ray": [10 + size / 5] * 2, "scorer": [size / 12.5] * 2},
            "memory_bytes": {"ours": [2**30] * 2, "ray": [2**31] * 2},
        }
        for name, size in sizes.items()
    }
    settings = {"jobs": ["ours", "ray", "pandas"], "model": "m", "workload": "short", "dtype": "float32", "rounds": 2}
    machine = {"device": "a CPU", "cores": 2, "date": "2026-01-01"}
    page = results.job_markdown(
        {"machine": machine, "settings": settings, "inputs": found, "left_out": {"pandas": "exit code 1"}}
    )
    assert "| `ours` | 10.0 s | 20.0 s | 170.0 s | 10.0 | 0.80 | 1.000 | 1.0 GiB | 1.0 GiB |" in page
    assert "| `ray` | 1.94 | 2.00 |" in page
    assert "Left out: `pandas`: exit code 1" in page


def test_the_top_10_is_that_of_each_query() -> None:
    truth = np.arange(40, dtype=np.float32)
    logits = truth.copy()
    logits[39] = -1.0  # the best pair of the second query leaves its top 10
    found = run.differences(logits, truth, ["a"] * 20 + ["b"] * 20)
    assert found["top10_overlap"] == pytest.approx(0.95)
    assert found["largest_difference"] == 40.0


def test_results_go_between_their_marks_and_nowhere_else() -> None:
    page = "a\n<!-- cpu -->\nold\n<!-- /cpu -->\n<!-- gpu -->\nkept\n<!-- /gpu -->\n"
    filled = results.fill(page, "cpu", "new")
    assert filled == "a\n<!-- cpu -->\n\nnew\n\n<!-- /cpu -->\n<!-- gpu -->\nkept\n<!-- /gpu -->\n"
    assert results.fill(filled, "cpu", "new") == filled
    with pytest.raises(ValueError, match="no <!-- tpu -->"):
        results.fill(page, "tpu", "new")


def test_a_token_of_a_local_layer_works_for_its_window_alone() -> None:
    """Four layers of 64 numbers and 96 inner ones in three matrices; two layers see 129 tokens at most."""
    shape = models.SHAPES["tiny-modernbert"]
    models.write(shape)
    products = 4 * 2 * (4 * 64 * 64 + 3 * 64 * 96) * 300
    attention = 4 * 64 * (2 * (100**2 + 200**2) + 2 * (100**2 + 200 * 129))
    assert shape.flops([100, 200]) == products + attention


@pytest.fixture
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny models are slower on several threads, and very much so on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_the_proofs_of_a_gpu_run_on_a_cpu_and_no_figure_is_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "No GPU figure was measured" in shown
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["race"] is None
    outcomes = {proof["name"]: proof["outcome"] for proof in found["proofs"]}
    assert outcomes == dict.fromkeys(proofs.PROOFS, "proved") | {"out of memory": "not here"}
    assert all(name in shown for name in outcomes)


def test_a_proof_that_fails_is_shown_and_the_others_are_run() -> None:
    def wrong(device: torch.device) -> str:
        proofs.require(False, "apart by 3")
        return "never"

    def broken(device: torch.device) -> str:
        raise RuntimeError("no kernel image\nis available")

    def right(device: torch.device) -> str:
        return "1e-6"

    tried = {"wrong": wrong, "broken": broken, "right": right}
    done = list(proofs.prove_all(torch.device("cpu"), tried))
    assert [(proof["outcome"], proof["figure"]) for proof in done] == [
        ("failed", "ProofError: apart by 3"),
        ("failed", "RuntimeError: no kernel image"),
        ("proved", "1e-6"),
    ]
    assert gpu.exit_code(done) == 1
    assert gpu.exit_code(done[2:]) == 0


def test_a_gpus_proofs_and_race_need_nothing_but_the_model_layer() -> None:
    """A machine lent with a GPU has torch and transformers, and no Ray."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in ("ray", "pydantic", "obstore", "typer"))
    code = f"import sys; {blocked}sys.path.insert(0, 'benchmarks'); import gpu, proofs, contestants, worker"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_race_runs_from_end_to_end(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/run.py",
        "--models",
        "tiny-modernbert",
        "--workloads",
        "mixed",
        "--pairs",
        "20",
    ]
    chosen = ["--entries", "transformers:float32", "ours:float32", "transformers:auto", "--rounds", "2"]
    shown = subprocess.run(
        [*command, *chosen, "--warm-up", "4", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    cases = json.loads((tmp_path / "results.json").read_text())["cases"]
    assert [case["model"] for case in cases] == ["tiny-modernbert"]
    for found in cases:
        assert list(found["entries"]) == ["transformers:float32", "ours:float32"]
        assert "auto" in found["left_out"]["transformers:auto"]
        for entry in found["entries"].values():
            assert len(entry["seconds"]) == 2
            assert entry["largest_difference"] < 1e-5
            assert entry["top10_overlap"] == 1.0
            assert entry["computed_tokens"] >= found["tokens"]
        assert found["entries"]["ours:float32"]["computed_tokens"] == found["tokens"]
        assert len(found["peaks"]["float32"]) == 2
    assert "ours:float32" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.svg").read_text().startswith("<svg")


def test_the_contestants_of_prepare_give_the_same_candidates(tmp_path: Path) -> None:
    """Of a document that the run has twice for one query, polars keeps both rows."""
    prepare.write_tables(tmp_path / "tables", 3_000, 400)
    found = []
    for name in ("lines", "parquet", "polars"):
        prepare.CONTESTANTS[name](tmp_path / "tables", tmp_path / name)
        rows = (
            pl.read_parquet(sorted((tmp_path / name).glob("part*.parquet"))).explode("candidates").unnest("candidates")
        )
        columns = ["query_id", "query", "doc_id", "text", "score"]
        best = rows.select(columns).sort("score", descending=True).unique(["query_id", "doc_id"], keep="first")
        found.append(best.sort(columns).rows())
    assert found[0] == found[1] == found[2]
    usage = prepare.measure("parquet", tmp_path / "tables", tmp_path / "measured")
    assert (usage.code, usage.peak_bytes > 0) == (0, True)


def test_the_steps_of_growth_hold_for_a_few_units(tmp_path: Path) -> None:
    """All but the run that is killed; that one starts a process."""
    growth.write_input(tmp_path / "in", 12)
    job = growth.SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), unit_pairs=growth.CANDIDATES)
    said = [step(job, 12) for name, step in growth.STEPS.items() if name != "run, killed"]
    counted = ["12 units", "0 parts checked, 12 computed", "12 parts checked, 0 computed"]
    assert said == [*counted, "complete", "12 parts sound"]
