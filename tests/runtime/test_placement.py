from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import OracleBackend

from reranker_batch import JobConfig
from reranker_batch.job.job import devices_for
from reranker_batch.runtime import placement as rules
from reranker_batch.runtime.placement import Node, NodesMissingError, Placement


def config(model: dict[str, Any] | None = None, **runtime: Any) -> JobConfig:
    return JobConfig.of(
        {
            "input": {"path": "in"},
            "model": {"name": "m"} | (model or {}),
            "output": {"path": "out"},
            "runtime": runtime,
        }
    )


def place(job: JobConfig, nodes: Sequence[Node]) -> Placement:
    return rules.place(job.runtime, devices_for(OracleBackend(device=job.model.device), job.runtime), nodes)


def test_a_laptop_gets_one_replica_on_all_threads_and_a_cpu_for_the_other_steps() -> None:
    assert place(config(), [Node(cpus=2, gpus=0)]) == Placement("cpu", 1, 1, num_cpus=1, num_gpus=0, threads=2)


def test_replicas_of_a_node_share_its_threads() -> None:
    assert place(config(min_replicas=3, max_replicas=3), [Node(cpus=8, gpus=0)]) == Placement(
        "cpu", 3, 3, num_cpus=2, num_gpus=0, threads=2
    )


def test_every_cpu_node_gets_a_replica() -> None:
    placement = place(config(), [Node(cpus=8, gpus=0), Node(cpus=8, gpus=0)])
    assert (placement.max_replicas, placement.num_cpus, placement.threads) == (2, 7, 8)


def used(nodes: list[Node], placement: Placement) -> float:
    return placement.max_replicas * placement.threads / sum(node.cpus for node in nodes)


def fits(nodes: list[Node], placement: Placement) -> bool:
    """Whether the replicas find nodes for what they reserve, and leave a CPU where there is more than one."""
    cpus = [node.cpus for node in nodes]
    left = sum(cpus) - placement.max_replicas * placement.num_cpus
    return sum(int(node // placement.num_cpus) for node in cpus) >= placement.max_replicas and left >= min(
        1, sum(cpus) / 2
    )


def test_a_head_without_cpus_does_not_make_the_other_nodes_small() -> None:
    nodes = [Node(0, 0), *[Node(64, 0)] * 4]
    assert place(config(), nodes) == Placement("cpu", 1, 4, num_cpus=63, num_gpus=0, threads=64)


def test_unequal_nodes_get_replicas_of_equal_threads_that_use_them() -> None:
    placement = place(config(), [Node(8, 0), Node(16, 0)])
    assert (placement.max_replicas, placement.threads) == (3, 8)


def test_a_small_node_next_to_large_ones_costs_no_further_copies_of_the_model() -> None:
    placement = place(config(), [Node(4, 0), Node(64, 0)])
    assert (placement.max_replicas, placement.threads) == (1, 64)


def test_as_many_replicas_as_asked_for_get_the_threads_that_the_nodes_have() -> None:
    placement = place(config(max_replicas=9), [Node(8, 0), Node(64, 0)])
    assert (placement.max_replicas, placement.threads) == (9, 8)


def test_a_lone_cpu_is_shared_by_a_replica_and_the_steps() -> None:
    assert place(config(), [Node(1, 0)]) == Placement("cpu", 1, 1, num_cpus=0.5, num_gpus=0, threads=1)


@given(st.lists(st.integers(0, 128), min_size=1, max_size=12).filter(any), st.integers(1, 6))
def test_any_cpus_are_put_to_use_by_replicas_that_fit(cpus: list[int], min_replicas: int) -> None:
    nodes = [Node(cpu, 0) for cpu in cpus]
    job = config(min_replicas=min_replicas)
    if min_replicas > sum(cpus):
        with pytest.raises(NodesMissingError, match="cannot be placed"):
            place(job, nodes)
        return
    placement = place(job, nodes)
    assert fits(nodes, placement)
    assert placement.max_replicas >= min_replicas
    if min_replicas == 1:
        assert used(nodes, placement) >= 0.85


def test_every_gpu_gets_a_replica_that_leaves_the_cpus_alone() -> None:
    nodes = [Node(cpus=16, gpus=4), Node(cpus=16, gpus=4), Node(cpus=4, gpus=0)]
    assert place(config(), nodes) == Placement("cuda", 1, 8, num_cpus=0, num_gpus=1, threads=0)


def test_a_share_of_a_gpu_packs_several_replicas_on_one() -> None:
    assert place(config(gpus_per_replica=0.5), [Node(cpus=16, gpus=2)]).max_replicas == 4


def test_gpus_are_left_alone_where_the_cpu_is_asked_for() -> None:
    assert place(config({"device": "cpu"}), [Node(cpus=4, gpus=1)]).device == "cpu"


@pytest.mark.parametrize(
    ("job", "nodes", "message"),
    [
        (config({"device": "cuda"}), [Node(4, 0)], "device=cuda, but Ray sees 0 GPUs on 1 node"),
        (config(gpus_per_replica=1), [Node(4, 0)], "gpus_per_replica=1, but Ray sees 0 GPUs"),
        (
            config(min_replicas=4),
            [Node(2, 0)],
            r"min_replicas=4 cannot be placed: 2 fit \(1 CPU each, 2 CPUs on 1 node",
        ),
        (config(min_replicas=3), [Node(16, 2)], "min_replicas=3 cannot be placed: 2 fit .*2 GPUs on 1 node"),
        (config(gpus_per_replica=2), [Node(16, 1)] * 2, "cannot be placed: 0 fit .*2 GPUs on 2 nodes.*a smaller share"),
        (config(), [Node(0, 4)], "4 GPUs to give out but no CPU on 1 node.*--num-cpus=1"),
        (config(), [Node(0, 0)], "no CPU to give out on 1 node.*--num-cpus=1"),
        (config(), [], "no CPU to give out on 0 nodes"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_the_numbers(job: JobConfig, nodes: list[Node], message: str) -> None:
    with pytest.raises(NodesMissingError, match=message):
        place(job, nodes)


def test_no_gpus_of_a_replica_are_no_gpus() -> None:
    assert place(config(gpus_per_replica=0), [Node(cpus=4, gpus=1)]).device == "cpu"
