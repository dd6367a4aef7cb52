"""Runs from and to an object store: moto's server, which speaks S3 on this machine.

Keys and policies count where a test asks for them.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SETTINGS, command, model, scene

from onnxsegment_ray.process import CommandError, Work, plan

pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
boto3 = pytest.importorskip("boto3", reason="moto is not installed: pip install 'moto[server]'")

CELLS = 225
BUCKET = "bucket"


class Store:
    """A server, a bucket in it, and who may do what there."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as some:
            some.bind(("127.0.0.1", 0))
            self.port = some.getsockname()[1]
        self.log = folder / "requests.log"
        # Keys and policies count for nothing before so many requests.
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000000"}
        server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(server, stdout=log, stderr=log, env=environment)
        self.address = f"http://127.0.0.1:{self.port}"
        access = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
        self.s3 = boto3.client("s3", endpoint_url=self.address, **access)
        for left in reversed(range(100)):
            try:
                self.s3.create_bucket(Bucket=BUCKET)
                break
            except Exception:
                if left == 0 or self.process.poll() is not None:
                    raise
                time.sleep(0.2)
        self.s3.upload_file(scene(), BUCKET, "scene.tif")
        iam = boto3.client("iam", endpoint_url=self.address, **access)
        self.keys = {}
        may_read = ["s3:Get*", "s3:List*"]
        for user, actions in {"writer": ["s3:*"], "reader": may_read, "keeper": [*may_read, "s3:Put*"]}.items():
            iam.create_user(UserName=user)
            allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
            iam.put_user_policy(UserName=user, PolicyName="of-tests", PolicyDocument=document)
            key = iam.create_access_key(UserName=user)["AccessKey"]
            self.keys[user] = (key["AccessKeyId"], key["SecretAccessKey"])

    def environment(self, key: str = "any", secret: str = "any", **more: str) -> dict[str, str]:
        """For processes that use the store."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_S3_ENDPOINT": f"127.0.0.1:{self.port}", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1",
            "CPL_AWS_EC2_API_ROOT_URL": "disabled", "CPL_AWS_CREDENTIALS_FILE": "/dev/null",
            "AWS_CONFIG_FILE": "/dev/null", **more,
        }

    def demand_keys(self, demand: bool) -> None:
        free = b"0" if demand else b"1000000000"
        ask = urllib.request.Request(
            f"{self.address}/moto-api/reset-auth", data=free, method="POST", headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(ask).read()

    def names(self, beginning: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=beginning)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def parts(self, mask: str) -> set[str]:
        return {name for name in self.names(f"{mask}.parts/") if "/labels_" in name}

    def requests(self, since: int = 0) -> list[tuple[str, str]]:
        """Method and address of each request."""
        text = re.sub(r"\x1b\[\d+m", "", self.log.read_text(encoding="utf-8"))
        return re.findall(r'"([A-Z]+) (\S+) HTTP/1.1"', text)[since:]

    def pixels(self, name: str, folder: Path) -> bytes:
        raw = folder / f"{name.replace('/', '-')}.raw"
        read = ["gdal_translate", "-q", "-of", "ENVI", f"/vsis3/{BUCKET}/{name}", str(raw)]
        subprocess.run(read, check=True, env=self.environment())
        return raw.read_bytes()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    made.process.terminate()
    made.process.wait(timeout=30)


def words(verb: str, source: str, output: str, **change: str) -> list[str]:
    settings = {**SETTINGS, **{name.replace("_", "-"): value for name, value in change.items()}}
    more = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return [command(), verb, source, "-o", output, "-m", model(), *more]


def run(line: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def begin(line: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def at(name: str) -> str:
    return f"/vsis3/{BUCKET}/{name}"


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Of a run with --json."""
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["event"] == "done" and told["end"] == "finished"
    return dict(told["counts"])


def test_a_mosaic_from_and_to_a_store_is_the_local_one(store: Store, tmp_path: Path, expected: bytes) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    begun = len(store.requests())
    line = words("run", at("scene.tif"), at("one/mask.tif"), probability_location=at("one/probability.tif"))
    done = run([*line, "--json", "--report", at("one/page.html")], store.environment(TMPDIR=str(scratch)))
    assert counts(done)["parts"] == CELLS
    assert store.names("one/") == [
        "one/mask.json", "one/mask.tif", "one/mask.tif.aux.xml", "one/page.html", "one/probability.tif"
    ]
    assert not list(scratch.glob("onnxsegment*"))
    assert store.pixels("one/mask.tif", tmp_path) == expected
    # What a part costs: two uploads, one look at the manifest after them.
    asked = Counter(
        (method, "manifest" if "manifest.json" in address else "part")
        for method, address in store.requests()[begun:]
        if "one/mask.tif.parts/" in address
    )
    print(asked)
    assert asked["PUT", "part"] == 2 * CELLS and asked["PUT", "manifest"] == 1
    assert asked["GET", "manifest"] <= CELLS + 10 and asked["GET", "part"] <= 8 * CELLS
    local = tmp_path / "mask.tif"
    probability = tmp_path / "probability.tif"
    subprocess.run([*words("run", scene(), str(local), probability_location=str(probability)), "-q"], check=True)
    raw = tmp_path / "probability.raw"
    subprocess.run(["gdal_translate", "-q", "-of", "ENVI", str(probability), str(raw)], check=True)
    assert store.pixels("one/probability.tif", tmp_path) == raw.read_bytes()
    item = json.loads(store.s3.get_object(Bucket=BUCKET, Key="one/mask.json")["Body"].read())
    assert item["assets"]["labels"]["href"] == "./mask.tif"
    assert item["links"][0]["href"] == "../scene.tif"
    # Once more where it is: replaced, with the item that was this program's. And left out, when told so.
    assert run([*line, "-q", "--skip-existing"], store.environment()).returncode == 0
    assert run([*line, "-q"], store.environment()).returncode == 0
    assert len(store.names("one/")) == 5


def launch(words: list[str], store: Store, folder: Path, **more: str) -> tuple[list[str], dict[str, str]]:
    """A line for GStreamer's own program, and what it needs to find the plugin."""
    plugin = Path(command()).parent / "libgstonnxsegment.so"
    program = shutil.which("gst-launch-1.0")
    if program is None or not plugin.exists():
        pytest.skip("gst-launch-1.0, or the plugin beside the command, is missing")
    found = {"GST_PLUGIN_PATH": str(plugin.parent), "GST_REGISTRY": str(folder / "registry.bin")}
    return [program, "-q", *words], store.environment(**found, **more)


def test_gst_launch_reads_and_writes_there_too(store: Store, tmp_path: Path, expected: bytes) -> None:
    line = [
        "rastersrc", f"location={at('scene.tif')}", "tile-size=128", "overlap=32", "!",
        "onnxsegment", f"model-file={model()}", "tta=flips", "!",
        "rastersink", f"location={at('gst/mask.tif')}", "part-size=64,64", "stac-item=false",
    ]
    done = run(*launch(line, store, tmp_path))
    assert done.returncode == 0, done.stderr
    assert store.names("gst/") == ["gst/mask.tif", "gst/mask.tif.aux.xml"]
    assert store.pixels("gst/mask.tif", tmp_path) == expected


def test_a_large_raster_goes_up_in_pieces(store: Store, tmp_path: Path) -> None:
    mask = tmp_path / "mask.tif"
    bands = ["-b", "1", "-scale", "0", "255", "0", "3", "-outsize", "4000", "4000", "-a_nodata", "none"]
    subprocess.run(["gdal_translate", "-q", *bands, scene(), str(mask)], check=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    line = ["rastersrc", f"location={mask}", "tile-size=1000", "overlap=0", "!", "maskclean", "!", "rastersink"]
    line += [f"location={at('large/mask.tif')}", "co=COMPRESS=NONE", "stac-item=false"]
    # The least that S3 takes for a piece, in MB.
    line, environment = launch(line, store, tmp_path, VSIS3_CHUNK_SIZE="5", TMPDIR=str(scratch))
    begun = len(store.requests())
    uploading = begin(line, environment)
    end = time.monotonic() + 120
    while time.monotonic() < end and not [a for _, a in store.requests()[begun:] if "partNumber=1" in a]:
        assert uploading.poll() is None, uploading.communicate()[1]
        time.sleep(0.005)
    uploading.send_signal(signal.SIGKILL)
    uploading.wait()
    # Nothing under the name, and what was being made is still here; all parts are there.
    assert "large/mask.tif" not in store.names("large/")
    assert len(list(scratch.glob("onnxsegment*"))) == 1
    done = run(line, environment)
    assert done.returncode == 0, done.stderr
    asked = Counter(method for method, address in store.requests()[begun:] if "partNumber=" in address)
    print(asked, len(store.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])), "given up by the kill")
    assert asked["PUT"] >= 5
    assert not list(scratch.glob("onnxsegment*"))
    raw = tmp_path / "mask.raw"
    subprocess.run(["gdal_translate", "-q", "-of", "ENVI", str(mask), str(raw)], check=True)
    assert store.pixels("large/mask.tif", tmp_path) == raw.read_bytes()
    assert store.names("large/") == ["large/mask.tif"]


def test_a_run_that_is_killed_goes_on(store: Store, tmp_path: Path, expected: bytes) -> None:
    draw = random.Random(3)
    line = [*words("run", at("scene.tif"), at("killed/mask.tif")), "--json"]
    kept: set[str] = set()
    for _ in range(3):
        process = subprocess.Popen(line, env=store.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None and len(store.parts("killed/mask.tif")) < len(kept) + 5:
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        now = store.parts("killed/mask.tif")
        assert kept < now
        kept = now
        assert not [name for name in store.names("killed/") if ".parts/" not in name]
    before = {name: store.s3.head_object(Bucket=BUCKET, Key=name)["ETag"] for name in kept}
    assert before
    told = counts(run(line, store.environment()))
    assert told["parts_resumed"] == len(kept) and told["parts"] == CELLS
    assert store.pixels("killed/mask.tif", tmp_path) == expected
    assert store.names("killed/") == ["killed/mask.json", "killed/mask.tif", "killed/mask.tif.aux.xml"]
    print(f"{len(kept)} of {CELLS} parts were there")


def test_shards_and_two_that_finish_at_once(store: Store, tmp_path: Path, expected: bytes) -> None:
    def together(*lines: list[str]) -> list[tuple[int, str]]:
        started = [begin(line, store.environment()) for line in lines]
        said = [process.communicate()[1] for process in started]
        return [(process.returncode, text) for process, text in zip(started, said, strict=True)]

    shards = [words("run", at("scene.tif"), at("shards/mask.tif"), shard=f"{k}/2") for k in (1, 2)]
    ends = together(*shards)
    # Who is first leaves cells to the other: 3.
    assert sorted(code for code, _ in ends) in ([0, 0], [0, 3]), ends
    assert store.pixels("shards/mask.tif", tmp_path) == expected
    assert not store.parts("shards/mask.tif")
    # Every part is there, and nobody has finished.
    for line in [words("run", at("scene.tif"), at("both/mask.tif"), shard=f"{k}/2", finish="false") for k in (1, 2)]:
        assert run(line, store.environment()).returncode == 0
    assert len(store.parts("both/mask.tif")) == CELLS
    ends = together(*[words("run", at("scene.tif"), at("both/mask.tif"), shard=f"{k}/2") for k in (1, 2, 1)])
    assert [code for code, _ in ends] == [0, 0, 0], ends
    assert store.pixels("both/mask.tif", tmp_path) == expected
    assert store.names("both/") == ["both/mask.json", "both/mask.tif", "both/mask.tif.aux.xml"]


def test_a_plan_begins_and_workers_that_see_another_store_refuse(
    store: Store, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    arguments = [at("scene.tif"), "-o", at("plan/mask.tif"), "--begin", "-m", model(), *settings]
    told = plan([command()], arguments)[0]
    assert told["cells"] == CELLS and store.names("plan/") == ["plan/mask.tif.parts/manifest.json"]
    job = {
        "input": at("scene.tif"), "output": at("plan/mask.tif"), "models": [model()],
        "settings": {**SETTINGS, "resume": "true"},
    }
    workers = [Work([command()]) for _ in range(2)]
    for k, work in enumerate(workers):
        *_, last = work.job({**job, "job": str(k), "cells": list(range(k, CELLS, 2)), "finish": k == 1})
        assert last["event"] == "done", last
        assert last["end"] == ("finished" if k == 1 else "parts")
    *_, last = workers[0].job({**job, "job": "3", "output": at("elsewhere/mask.tif"), "cells": [0]})
    assert last["fault"] == "settings"
    assert "resume=true, and there are no parts in /vsis3/bucket/elsewhere/mask.tif.parts" in last["error"]
    assert "see that this machine sees the same folder" in last["error"]
    for work in workers:
        work.close()
    assert store.pixels("plan/mask.tif", tmp_path) == expected
    assert not store.names("elsewhere/") and not store.parts("plan/mask.tif")


def test_parts_of_another_setting_are_refused_even_when_both_begin_at_once(store: Store) -> None:
    line = words("run", at("scene.tif"), at("other/mask.tif"), shard="1/40", finish="false")
    assert run(line, store.environment()).returncode == 0
    kept = store.names("other/")
    done = run(words("run", at("scene.tif"), at("other/mask.tif"), tta="none"), store.environment())
    assert done.returncode == 1
    assert "/vsis3/bucket/other/mask.tif.parts belongs to another run: tta is" in done.stderr
    assert store.names("other/") == kept
    for round_ in range(3):
        lines = [words("plan", at("scene.tif"), at(f"race{round_}/mask.tif"), tta=tta) for tta in ("none", "hflip")]
        both = [begin([*line, "--begin"], store.environment()) for line in lines]
        said = [process.communicate()[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 1], said
        assert "belongs to another run: tta is" in "".join(said)


NOWHERE = {"AWS_S3_ENDPOINT": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("output", "who", "change", "expected_words"),
    [
        ("nobucket/mask.tif", "writer", {}, "the store has no bucket nobucket; make it, or name another"),
        ("bucket/e/mask.tif", "reader", {}, "the store denies access (Access Denied); what is needed is to list"),
        ("bucket/e/mask.tif", "unknown", {}, "the store does not accept the key (The AWS Access Key Id you provided"),
        ("bucket/e/mask.tif", "wrong", {}, "the store does not accept the key (The request signature we calculated"),
        ("bucket/e/mask.tif", "writer", NOWHERE, "the store cannot be reached: Failed to connect"),
        ("bucket/e/mask.tif", "nobody", {}, "no credentials are known: AWS_SECRET_ACCESS_KEY"),
        ("mask.tif", "writer", {}, "names no object; write /vsis3/BUCKET/NAME.tif"),
    ],
)
def test_what_is_wrong_with_a_store_is_said_in_one_line(
    store: Store, output: str, who: str, change: dict[str, str], expected_words: str
) -> None:
    keys = {**store.keys, "unknown": ("AKIANOBODY", "x"), "wrong": (store.keys["writer"][0], "x"), "nobody": ("", "")}
    environment = {**store.environment(*keys[who]), **change}
    if who == "nobody":
        del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    line = words("run", scene(), f"/vsis3/{output}")
    before = store.names("")
    store.demand_keys(True)
    try:
        done = run(line, environment)
    finally:
        store.demand_keys(False)
    said = [text for text in done.stderr.splitlines() if text.strip()]
    print(done.stderr)
    assert done.returncode == 1 and len(said) == 1, done.stderr
    assert expected_words in said[0]
    assert store.names("") == before


def test_a_source_that_cannot_be_read_is_said_too(store: Store, tmp_path: Path) -> None:
    for source, environment, part in [
        ("/vsis3/nobucket/scene.tif", store.environment(), "location=/vsis3/nobucket/scene.tif"),
        (at("nothing.tif"), store.environment(), "nothing.tif"),
        (at("scene.tif"), {**store.environment(), "AWS_S3_ENDPOINT": "127.0.0.1:1"}, "scene.tif: cannot be opened"),
    ]:
        done = run(words("run", source, str(tmp_path / "mask.tif")), environment)
        print(done.stderr)
        assert done.returncode == 1 and part in done.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "kept"), [("writer", 0), ("keeper", CELLS)])
def test_a_key_that_may_write_is_enough_and_without_leave_to_delete_parts_are_kept(
    store: Store, tmp_path: Path, expected: bytes, key: str, kept: int
) -> None:
    name = f"{key}/mask.tif"
    store.demand_keys(True)
    try:
        done = run([*words("run", at("scene.tif"), at(name)), "-q"], store.environment(*store.keys[key]))
    finally:
        store.demand_keys(False)
    assert done.returncode == 0, done.stderr
    assert store.pixels(name, tmp_path) == expected and len(store.parts(name)) == kept


def test_what_only_a_disk_takes_is_refused(store: Store, tmp_path: Path) -> None:
    for source, output, said in [
        (scene(), at("no/houses.geojson"), "footprints cannot be written to a store, only to a disk"),
        (scene(), at("no/mask.png"), "a picture cannot be written to a store"),
        (scene(), at("no/rows.csv"), "a table of rows cannot be written to a store"),
        (scene(), f"/vsizip/{tmp_path}/a.zip/mask.tif", "write to a disk, to /vsis3/, /vsigs/ or /vsioss/"),
        (at("scene.tif"), at("scene.tif"), "/vsis3/bucket/scene.tif is the input itself"),
        (at("scene.tif"), f"/vsis3/{BUCKET}//scene.tif", "is the input itself"),
    ]:
        done = run(words("run", source, output), store.environment())
        print(done.stderr)
        assert done.returncode == 1 and said in done.stderr, done.stderr
    assert not store.names("no/")


def test_a_list_of_the_parts_needs_no_assembly(store: Store, tmp_path: Path, expected: bytes) -> None:
    assert run([*words("run", at("scene.tif"), at("list/mask.vrt")), "-q"], store.environment()).returncode == 0
    assert store.pixels("list/mask.vrt", tmp_path) == expected
    assert len(store.parts("list/mask.vrt")) == CELLS


def test_many_scenes_of_a_store_become_many_masks(store: Store, tmp_path: Path) -> None:
    for k in range(2):
        cut = tmp_path / f"{k}.tif"
        window = ["-srcwin", str(k * 300), "0", "300", "200"]
        subprocess.run(["gdal_translate", "-q", *window, scene(), str(cut)], check=True)
        store.s3.upload_file(str(cut), BUCKET, f"scenes/{k}.tif")
    for source, output in [(at("scenes/"), "masks"), (at("scenes/*.tif"), "masks2")]:
        done = run([*words("run", source, at(f"{output}/")), "-q"], store.environment())
        assert done.returncode == 0, done.stderr
        made = [name for name in store.names(f"{output}/") if name.endswith(".tif")]
        assert made == [f"{output}/0.tif", f"{output}/1.tif"]
    done = run(words("run", at("scenes/*.jp2"), at("masks/")), store.environment())
    assert done.returncode == 1 and "scenes/*.jp2: no file has such a name" in done.stderr


def test_a_cluster_works_on_a_store(store: Store, tmp_path: Path, expected: bytes) -> None:
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    line = [
        sys.executable, "-m", "onnxsegment_ray", "run", at("scene.tif"), "-o", at("ray/mask.tif"), "-m", model(),
        *settings, "--workers", "2", "--task-seconds", "2", "--command", command(), "--json",
    ]
    done = run(line, store.environment())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["event"] == "done" and told["finished_cells"] == CELLS and told["finished_rasters"] == 1
    assert store.pixels("ray/mask.tif", tmp_path) == expected
    assert store.names("ray/") == ["ray/mask.json", "ray/mask.tif", "ray/mask.tif.aux.xml"]


def test_a_cluster_is_told_that_the_store_cannot_be_used(store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CommandError, match="the store has no bucket nobucket"):
        for name, value in store.environment().items():
            patch.setenv(name, value)
        plan([command()], [scene(), "-o", "/vsis3/nobucket/mask.tif", "--begin", "-m", model()])
