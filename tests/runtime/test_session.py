"""The Ray of a run: who can reach a local one, and what is said where none can be had."""

from __future__ import annotations

import signal
import stat
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from fault_jobs import faulty_input
from judge import judge_unfinished
from test_driver_faults import SLOW, start, stop, wait_for_parts

from reranker_batch.errors import ConfigError
from reranker_batch.runtime.local_ray import check_socket_paths, protect_token
from reranker_batch.runtime.session import join

pytestmark = pytest.mark.usefixtures("worker_environment")


def is_loopback(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@pytest.mark.ray
def test_a_local_ray_listens_to_this_machine_alone_and_its_token_is_the_users(tmp_path: Path) -> None:
    """During a run, which SIGTERM ends. The token is there from before and readable by all, as Ray leaves it."""
    groups = faulty_input(tmp_path, SLOW)
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o644)
    driver = start("fault_driver.py", tmp_path, HOME=str(tmp_path))
    wait_for_parts(tmp_path, 1, driver)
    addresses = listening(psutil.Process(driver.pid))
    output = stop(driver, signal.SIGTERM)
    judge_unfinished(tmp_path, groups, status="interrupted")
    assert len(addresses) >= 4, addresses
    assert [name for name in addresses if "ray::" in name], "no worker is at work"
    assert {name: found for name, found in addresses.items() if not all(map(is_loopback, found))} == {}
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert f"Others could read {token} (mode 644)" in output


def listening(driver: psutil.Process) -> dict[str, list[str]]:
    """The addresses on which a driver and its Ray wait for connections, by process."""
    found: dict[str, list[str]] = {}
    for process in [driver, *driver.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            name = f"{process.pid} {process.cmdline()[:1]}"
            for socket in process.net_connections("inet"):
                if socket.status == psutil.CONN_LISTEN:
                    found.setdefault(name, []).append(socket.laddr.ip)
    return found


def test_a_temporary_folder_that_is_too_long_for_sockets_is_refused() -> None:
    check_socket_paths("/tmp/" + "x" * 34)
    with pytest.raises(ConfigError, match=r"is 1 bytes too long for the sockets of Ray.*Set RAY_TMPDIR"):
        check_socket_paths("/tmp/" + "x" * 35)


def test_a_new_token_can_be_read_by_its_user_alone_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    protect_token(path)
    token = path.read_text()
    protect_token(path)
    assert path.read_text() == token
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_token_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".ray").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match=r"token .*auth_token cannot be kept.*RAY_AUTH_TOKEN"):
        protect_token(tmp_path / ".ray" / "auth_token")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "ray://head:10001"])
def test_addresses_for_clients_are_refused_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match="joins a cluster from one of its nodes"):
        join(address)
