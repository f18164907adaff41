"""A thousand documents of 10 kB: documents a second, on SQLite with a folder and on PostgreSQL with S3.

Owns: the load and what bounds it. Each document is one POST with its content (creation-with-upload) over
connections that are kept open, by as many workers as a client would use; the clock stops when the last
document is available to its recipient.

Services come from tests/env/with.sh, which small.sh calls.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import ssl
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pli
from peers import Curl, Failed, Pki, keep, machine, main_of, metadata, need, processor_seconds, table


class Worker(threading.Thread):
    """One connection that sends documents one after another."""

    def __init__(self, server, context, token: str, deposit: str, numbers: range, size: int) -> None:
        super().__init__()
        self.connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=context)
        self.token, self.deposit, self.numbers, self.size = token, deposit, numbers, size
        self.latencies: list[float] = []
        self.documents: list[str] = []
        self.failure: str | None = None

    def run(self) -> None:
        try:
            for number in self.numbers:
                content = os.urandom(self.size)
                start = time.monotonic()
                self.connection.request("POST", "/api/v1/uploads", body=content, headers={
                    "Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0",
                    "Upload-Length": str(self.size), "Content-Type": "application/offset+octet-stream",
                    "Upload-Metadata": metadata(filename=f"D{number} – pièce.pdf", deposit=self.deposit)})
                answer = self.connection.getresponse()
                text = answer.read()
                if answer.status != 201 or answer.headers.get("Upload-Offset") != str(self.size):
                    self.failure = f"{answer.status}: {text[:300]!r}"
                    return
                self.documents.append(answer.headers["Pli-Document"])
                self.latencies.append(time.monotonic() - start)
        except Exception as failure:  # noqa: BLE001 - told by the main thread
            self.failure = repr(failure)


def measure(folder: Path, pki: Pki, backend: str, count: int, size: int, workers: int) -> dict:
    server, token = pli.start_pli(folder, pki, backend=backend)
    with server:
        curl = Curl(pki, folder)
        deposit = pli.new_deposit(curl, server, token)
        context = ssl.create_default_context(cafile=str(pki.ca))
        busy = processor_seconds(server.process.pid)
        own = time.process_time()
        start = time.monotonic()
        share = [range(n, count, workers) for n in range(workers)]
        running = [Worker(server, context, token, deposit, numbers, size) for numbers in share]
        for worker in running:
            worker.start()
        for worker in running:
            worker.join()
        received = time.monotonic() - start
        failures = [worker.failure for worker in running if worker.failure]
        if failures:
            raise Failed(f"{len(failures)} workers failed: {failures[0]}; see {server.log}")
        pli.wait_until_all_available(curl, server, token, deposit, count)
        seconds = time.monotonic() - start
        latencies = sorted(latency for worker in running for latency in worker.latencies)
        return {"backend": backend, "workers": workers, "documents_s": count / seconds,
                "received_s": count / received,
                "median_ms": statistics.median(latencies) * 1000, "p99_ms": latencies[int(count * 0.99)] * 1000,
                "server_cores": (processor_seconds(server.process.pid) - busy) / seconds,
                "client_cores": (time.process_time() - own) / received}


def durable_files(folder: Path, size: int, seconds: float = 2) -> float:
    """Files a second that the disk itself takes, one after another, as a folder store must write them: content,
    fsync, rename, fsync of the folder. A document is two of them (segment, manifest) and the database's commits.
    """
    content, count, start = os.urandom(size), 0, time.monotonic()
    handle = os.open(folder, os.O_RDONLY)
    while time.monotonic() - start < seconds:
        temporary = folder / "durable.part"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / f"durable-{count % 64}")
        os.fsync(handle)
        count += 1
    os.close(handle)
    return count / (time.monotonic() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--workers", default="1,8,32")
    parser.add_argument("--backends", default="embedded,services")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    need("curl", "openssl")
    scratch = Path(tempfile.mkdtemp(prefix="pli-small-", dir=given.disk))
    runs = []
    try:
        pki = Pki(scratch / "pki")
        disk = durable_files(scratch, given.size)
        for backend in given.backends.split(","):
            for workers in map(int, given.workers.split(",")):
                folder = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
                runs.append(measure(folder, pki, backend, given.count, given.size, workers))
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{given.count} documents of {given.size} bytes, each durable before it is answered")
    print(table(["backend", "workers", "documents/s", "received/s", "median ms", "p99 ms", "server cores", "client cores"],
                [[r["backend"], r["workers"], f"{r['documents_s']:.0f}", f"{r['received_s']:.0f}",
                  f"{r['median_ms']:.1f}", f"{r['p99_ms']:.1f}", f"{r['server_cores']:.2f}", f"{r['client_cores']:.2f}"]
                 for r in runs]))
    print(f"the disk itself: {disk:.0f} files of that size a second, one after another, each durable; "
          "--disk /dev/shm shows the same without waiting for a disk")
    print(f"\nkept in {keep('small', {'machine': machine(), 'durable_files_s': disk, 'runs': runs})}")
    return 0


main_of(main)
