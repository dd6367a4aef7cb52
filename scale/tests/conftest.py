"""What tests of real runs need: the command, a scene, and the masks that one process makes."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"tta": "flips", "tile-size": "128", "overlap": "32", "part-size": "64,64"}


def command() -> str:
    """The command that was built last, or the one that ONNXSEGMENT names."""
    named = os.environ.get("ONNXSEGMENT")
    built = [ROOT / "target" / profile / "onnxsegment" for profile in ("debug", "release")]
    found = [path for path in built if path.exists()]
    if not named and not found:
        pytest.skip("onnxsegment is not built: cargo build")
    return named or str(max(found, key=lambda path: path.stat().st_mtime))


def scene() -> str:
    path = ROOT / "out" / "scene.tif"
    if not path.exists():
        pytest.skip("out/scene.tif is missing: make setup")
    return str(path)


def model() -> str:
    return str(ROOT / "models" / "snap0.onnx")


def pixels(path: str | Path) -> bytes:
    """A mask's pixels, as GDAL reads them."""
    raw = f"{path}.raw"
    subprocess.run(["gdal_translate", "-q", "-of", "ENVI", str(path), raw], check=True)
    return Path(raw).read_bytes()


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The scene's mask by one process."""
    path = tmp_path_factory.mktemp("one") / "mask.tif"
    words = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    subprocess.run([command(), "run", scene(), "-o", str(path), "-m", model(), "-q", *words], check=True)
    return pixels(path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A Ray cluster of this machine alone, for all tests; its address."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    # Others on this machine have no part in it.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=4", f"--port={port}"]
    more = ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
    for _ in range(3):
        head = subprocess.Popen([*ray, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(40):
            time.sleep(1)
            status = [ray[0], "status", f"--address=127.0.0.1:{port}"]
            if head.poll() is not None:
                break
            if subprocess.run(status, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                yield f"127.0.0.1:{port}"
                head.terminate()
                head.wait(timeout=60)
                return
        head.kill()
        head.wait()
    pytest.fail("Ray does not start")
