"""The Ray of a run: who can reach a local one, and what is said where none can be had."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from reranker_batch.errors import ConfigError
from reranker_batch.runtime.local_ray import check_socket_paths, protect_token
from reranker_batch.runtime.session import join

pytestmark = pytest.mark.usefixtures("worker_environment")
HERE = Path(__file__).parent


def is_loopback(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@pytest.mark.ray
def test_a_local_ray_listens_to_this_machine_alone_and_its_token_is_the_users(tmp_path: Path) -> None:
    """The token is there from before and readable by all, as Ray leaves it."""
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o644)
    driver = subprocess.run(
        [sys.executable, str(HERE / "session_driver.py")],
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    addresses: dict[str, list[str]] = json.loads(driver.stdout.splitlines()[-1])
    assert len([found for found in addresses.values() if found]) >= 4, addresses
    outside = {name: found for name, found in addresses.items() if not all(map(is_loopback, found))}
    assert outside == {}
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert f"Others could read {token} (mode 644)" in driver.stderr


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
