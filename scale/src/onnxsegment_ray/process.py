"""The command ``onnxsegment`` as a process: its plans, and a worker that keeps models loaded."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Any

LOG_LINES = 40
"""Lines of a worker's log that are kept for the report of its death."""


class CommandError(Exception):
    """What ``onnxsegment`` said when it could not do what was asked."""


class WorkerDied(Exception):
    """The process of a worker ended in the middle of a job. Its last words are the text."""


def plan(command: Sequence[str], arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of ``onnxsegment plan --json``."""
    try:
        done = subprocess.run([*command, "plan", "--json", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CommandError(
            f"{command[0]} cannot be run ({error.strerror}); put onnxsegment into PATH or name it by --command"
        ) from error
    if done.returncode != 0:
        # Of a wrong argument, what is wrong with it; the usage that follows is that of another command.
        said = done.stderr.partition("\n\nUsage:")[0].strip().removeprefix("onnxsegment: ").removeprefix("error: ")
        raise CommandError(said or f"onnxsegment plan ended with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Work:
    """A process of ``onnxsegment work``."""

    def __init__(self, command: Sequence[str]) -> None:
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        try:
            # A session of its own: Ctrl-C is for whoever gives out the work.
            self._process = subprocess.Popen(
                [*command, "work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(
                f"{command[0]} cannot be run ({error.strerror}); install onnxsegment on this machine, or name it by "
                "--command"
            ) from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()
        try:
            self.ready = self._read()
        except WorkerDied as error:
            raise CommandError(str(error)) from None

    def _listen(self, errors: IO[str]) -> None:
        for line in errors:
            self.log.append(line.rstrip())

    def _read(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line:
            status = self._process.wait()
            self._listener.join(timeout=1)
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise WorkerDied("\n".join([f"onnxsegment work {how}", *self.log]))
        told: dict[str, Any] = json.loads(line)
        return told

    @property
    def process(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def job(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Does a job; what is told of it, the last of which is ``done`` or ``failed``."""
        self._send(job)
        while True:
            told = self._read()
            if told.get("job") not in (job["job"], None):
                continue
            yield told
            if told["event"] in ("done", "failed"):
                return

    def cancel(self, job: str) -> None:
        """Has a job stopped, from another thread."""
        self._send({"cancel": job})

    def _send(self, what: dict[str, Any]) -> None:
        try:
            self._input.write(json.dumps(what) + "\n")
            self._input.flush()
        except (BrokenPipeError, ValueError):
            # What it died of is told when its output is read.
            pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def unlike(here: dict[str, Any], there: dict[str, Any], who: str) -> str | None:
    """In what another machine's versions differ from this one's; None where they do not."""
    names = {"onnxsegment": "onnxsegment", "onnxruntime": "ONNX Runtime"}
    found = [
        f"{name} {there.get(key)} where this machine has {here.get(key)}"
        for key, name in names.items()
        if there.get(key) != here.get(key)
    ]
    if not found:
        return None
    return f"{who} has {' and '.join(found)}; pixels would differ: install the same on all machines"


def shared_file(path: str, text: str) -> str | None:
    """What is wrong with a file that another machine has written for this one to see; None where nothing is."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f"has no folder {folder}"
    try:
        with open(path, encoding="utf-8") as file:
            found = file.read()
    except FileNotFoundError:
        return f"has a folder {folder}, but another one: it does not see what the driver wrote there"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if found != text:
        return f"has a folder {folder}, but another one"
    return None if os.access(folder, os.W_OK) else f"cannot write to {folder}: permission denied"
