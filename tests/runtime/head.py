"""A head node as a user starts it, in a session, a home and ports of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ray.job_submission import JobDetails, JobSubmissionClient
from worker_path import WORKER_PATH

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """`ray start --head` and what its clients need; call `start` first and `stop` last."""

    folder: Path
    """Short, for the sockets of Ray lie below it."""
    port: int
    dashboard_port: int
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, folder: Path, *options: str, **more: str) -> Head:
        port, dashboard, agent = (free_port() for _ in range(3))
        command = [
            *("ray", "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--object-store-memory={200 << 20}", *options),
        ]
        with (folder / "head.log").open("w") as log:
            process = subprocess.Popen(command, env=environment(folder) | more, stdout=log, stderr=log, text=True)
        head = cls(folder, port, dashboard, process)
        try:
            head._wait()
        except BaseException:
            head.stop()
            raise
        return head

    def add_node(self, *options: str) -> None:
        """Another node, with files of its own as if on a machine of its own; ends with the head."""
        own = ["--temp-dir", tempfile.mkdtemp(prefix="n", dir=self.folder), f"--object-store-memory={100 << 20}"]
        added = self.ray("start", f"--address=127.0.0.1:{self.port}", *own, *options)
        assert added.returncode == 0, added.stdout + added.stderr

    def _wait(self) -> None:
        until = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "head.log").read_text()
            assert time.monotonic() < until, (self.folder / "head.log").read_text()
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.address}/api/version", timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def stop(self) -> None:
        """`--block` drains for half a minute on SIGTERM, which nobody waits for here."""
        self.process.kill()
        self.process.wait()
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self) -> list[int]:
        """Those that Ray has started for this session; its folder stands in their commands or environments."""
        marked = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                if os.fsencode(self.folder) in text:
                    marked.append(int(entry.name))
        return marked

    def ray(self, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command of a client, as in the documentation."""
        return subprocess.run(
            ["ray", *arguments],
            env=environment(self.folder, home=home),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def submit(self, job: str, *entrypoint: str, wait: bool = True) -> subprocess.CompletedProcess[str]:
        options = ["--submission-id", job, "--working-dir", ".", *([] if wait else ["--no-wait"])]
        return self.ray("job", "submit", "--address", self.address, *options, "--", "python", *entrypoint)

    def client(self) -> JobSubmissionClient:
        token = (self.folder / ".ray" / "auth_token").read_text().strip()
        return JobSubmissionClient(self.address, headers={"Authorization": f"Bearer {token}"})


def environment(folder: Path, *, home: Path | None = None) -> dict[str, str]:
    """Of a shell in which the project's environment is active and RAY_AUTH_MODE=token is exported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        "HOME": str(home or folder),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": WORKER_PATH,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_TMPDIR": str(folder / "t"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for_end(client: JobSubmissionClient, job: str) -> JobDetails:
    until = time.monotonic() + 200
    while not client.get_job_status(job).is_terminal():
        assert time.monotonic() < until, client.get_job_logs(job)
        time.sleep(0.5)
    return client.get_job_info(job)
