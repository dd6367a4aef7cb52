"""What tests of real runs need: the command, a scene, and the masks that one process makes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Ray reads these when it is loaded. Others on this machine have no part in the tests' cluster; and a machine that is
# gone is missed sooner than in a real network.
os.environ.update(
    RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_health_check_period_ms="1000",
    RAY_metrics_report_interval_ms="1000",
)
# What a script runs in its background ignores Ctrl-C, and so would the programs that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for some in sockets:
        some.bind(("127.0.0.1", 0))
    found = [some.getsockname()[1] for some in sockets]
    for some in sockets:
        some.close()
    return found


class Node:
    """A machine of a Ray cluster, as a session of this one."""

    def __init__(self, folder: str, *arguments: str, before: tuple[str, ...] = ()) -> None:
        self.metrics, agent, client = free_ports(3)
        ray = [*before, str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        ports = [f"--metrics-export-port={self.metrics}", f"--dashboard-agent-listen-port={agent}"]
        if "--head" in arguments:
            ports += [f"--ray-client-server-port={client}", f"--temp-dir={folder}", "--include-dashboard=false"]
        self.log = Path(folder) / f"start-{self.metrics}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*ray, *arguments, *ports], stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """As if its machine lost power. Ray gives its actors process groups of their own."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(process.name)) == self.process.pid:
                    os.kill(int(process.name), signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        self.kill()


@dataclass
class Cluster:
    address: str
    head: Node
    folder: str

    def add(self, *arguments: str, before: tuple[str, ...] = ()) -> Node:
        """Another machine."""
        count = self.nodes()
        node = Node(self.folder, f"--address={self.address}", *arguments, before=before)
        end = time.monotonic() + 60
        while self.nodes() <= count:
            if time.monotonic() > end or node.process.poll() is not None:
                pytest.fail(f"a second node does not start:\n{node.log.read_text()[-2000:]}")
            time.sleep(0.5)
        return node

    def nodes(self) -> int:
        status = subprocess.run(ray_status(self.address), capture_output=True, text=True, check=False)
        active = status.stdout.partition("Active:")[2].partition("Pending:")[0]
        return sum(line.strip().startswith("1 ") for line in active.splitlines())


def ray_status(address: str) -> list[str]:
    return [str(Path(sys.executable).with_name("ray")), "status", f"--address={address}"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ray cluster of this machine alone, for all tests."""
    # Sockets have short names.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    for _ in range(3):
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        head = Node(folder, "--head", "--num-cpus=4", f"--port={port}", "--node-ip-address=127.0.0.1")
        end = time.monotonic() + 60
        while time.monotonic() < end and head.process.poll() is None:
            if subprocess.run(ray_status(address), capture_output=True, check=False).returncode == 0:
                yield Cluster(address, head, folder)
                head.stop()
                shutil.rmtree(folder, ignore_errors=True)
                return
            time.sleep(0.5)
        head.kill()
    pytest.fail(f"Ray does not start; see {folder}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A closing line that continuous integration counts by."""
    count = {how: len(terminalreporter.stats.get(how, [])) for how in ("passed", "failed", "error", "skipped")}
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"skipped: {report.nodeid}: {report.longrepr[2]}")
    terminalreporter.write_line(f"scale: {count['passed']} passed, {count['failed'] + count['error']} failed")
