"""How many replicas fit where, and what each may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reranker_batch.config import RuntimeConfig
from reranker_batch.core.backend import Device
from reranker_batch.errors import ConfigError

_STEP_CPUS = 1
"""CPUs that one prepare or finish task keeps busy."""
_CPUS_AT_WORK = 0.85
"""Share of a cluster's CPUs that the replicas use at least, where nodes differ."""


class NodesMissingError(ConfigError):
    """The nodes that are there do not hold what is asked for; with more of them it may be placed."""


@dataclass(frozen=True)
class Node:
    """Resources that Ray may give out on one machine."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Placement:
    """The pool of replicas. `threads` are those of torch in one replica, 0 leaves torch's own choice."""

    device: Device
    min_replicas: int
    max_replicas: int
    num_cpus: float
    num_gpus: float
    threads: int

    @property
    def step_cpus(self) -> float:
        """CPUs of one prepare or finish task. Next to replicas on CPUs it reserves none: when a node is lost, its
        replicas may take the last CPUs of the others, and the short steps must still run.
        """
        return 0 if self.device == "cpu" else _STEP_CPUS


def place(runtime: RuntimeConfig, devices: Sequence[Device], nodes: Sequence[Node]) -> Placement:
    """Decide the pool, on one of `devices`, before anything starts.

    On GPUs a replica reserves no CPU, so that the CPU steps always run. On CPUs the steps reserve none, and the
    replicas together leave one CPU to them; a replica's threads may use the whole node, since those steps are short.

    All replicas have equally many threads, so that a unit gives the same bytes wherever it is scored.

    Raises:
        NodesMissingError: These nodes cannot hold what is asked for; the message has the numbers.
    """
    if "cpu" not in devices or ("cuda" in devices and any(node.gpus for node in nodes)):
        return _place_on_gpus(runtime, nodes)
    return _place_on_cpus(runtime, nodes)


def _place_on_gpus(runtime: RuntimeConfig, nodes: Sequence[Node]) -> Placement:
    asked = runtime.gpus_per_replica
    per_replica = 1.0 if asked == "auto" else asked
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    if gpus == 0:
        setting = "model.device=cuda" if asked == "auto" else f"runtime.gpus_per_replica={asked:g}"
        raise NodesMissingError(
            f"{setting}, but Ray sees 0 GPUs on {_counted(nodes)}. Use nodes with GPUs or set model.device: cpu and "
            "runtime.gpus_per_replica: auto."
        )
    if cpus < _STEP_CPUS:
        raise NodesMissingError(
            f"Ray has {gpus:g} GPUs to give out but no CPU on {_counted(nodes)}, which reading and writing need. "
            "Start a node with --num-cpus=1 or more."
        )
    fitting = sum(int(node.gpus // per_replica) for node in nodes)
    _require(runtime, fitting, f"{per_replica:g} GPU each, {gpus:g} GPUs on {_counted(nodes)}")
    limit = runtime.max_replicas
    most = fitting if limit == "auto" else min(limit, fitting)
    return Placement("cuda", runtime.min_replicas, most, num_cpus=0, num_gpus=per_replica, threads=0)


def _place_on_cpus(runtime: RuntimeConfig, nodes: Sequence[Node]) -> Placement:
    cpus = [int(node.cpus) for node in nodes if node.cpus >= 1]
    total, least = sum(cpus), runtime.min_replicas
    if not total:
        raise NodesMissingError(
            f"Ray has no CPU to give out on {_counted(nodes)}. Start a node with --num-cpus=1 or more."
        )
    _require(runtime, total, f"1 CPU each, {total} CPUs on {_counted(nodes)}")
    asked = runtime.max_replicas
    if asked == "auto":
        threads = min(_threads_that_use(cpus), _threads_of(least, cpus))
        replicas = _slots(cpus, threads)
    else:
        replicas = min(asked, total)
        threads = _threads_of(replicas, cpus)
    return Placement("cpu", least, replicas, _reserved(threads, replicas, total), num_gpus=0, threads=threads)


def _reserved(threads: int, replicas: int, total: int) -> float:
    """CPUs of a replica, in whole numbers where it has one after the CPU that all of them leave."""
    share = (total - _STEP_CPUS) / replicas
    return min(threads, int(share)) if share >= 1 else max(0.5, int(100 * share) / 100)


def _slots(cpus: Sequence[int], threads: int) -> int:
    return sum(node // threads for node in cpus)


def _threads_of(replicas: int, cpus: Sequence[int]) -> int:
    """The most threads that each of so many replicas can have."""
    return next(threads for threads in range(max(cpus), 0, -1) if _slots(cpus, threads) >= replicas)


def _threads_that_use(cpus: Sequence[int]) -> int:
    """The most threads a replica, and so the fewest copies of the model, that keep most CPUs at work."""
    wanted = _CPUS_AT_WORK * sum(cpus)
    return next(threads for threads in range(max(cpus), 0, -1) if _slots(cpus, threads) * threads >= wanted)


def _require(runtime: RuntimeConfig, fitting: int, need: str) -> None:
    least = runtime.min_replicas
    if fitting < least:
        advice = "Lower it or use more nodes." if fitting else "Use nodes that fit one, or a smaller share."
        raise NodesMissingError(f"runtime.min_replicas={least} cannot be placed: {fitting} fit ({need}). {advice}")


def _counted(nodes: Sequence[Node]) -> str:
    return "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
