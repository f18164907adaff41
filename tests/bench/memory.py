"""Resident memory of Pli while it receives: one upload of 1 GB, one of 20 GB, a hundred at once.

Owns: the samples from /proc and what they must stay under. The input is made while it is sent and never
lies on a disk; the store is on a disk, because a tmpfs would be memory too.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pli
from peers import (Curl, Failed, Pki, Running, keep, machine, main_of, metadata, need, size_of, table)

MEBI = 1 << 20


class Watch:
    """Samples VmRSS of a process every 50 ms; VmHWM is the kernel's own highest."""

    def __init__(self, pid: int) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.ended = threading.Event()
        self.samples: list[int] = []
        self.before = self.now()
        # 5 resets the high-water mark to what is resident now (proc(5), clear_refs).
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def field(self, name: str) -> int:
        line = next(line for line in self.status.read_text().splitlines() if line.startswith(name + ":"))
        return int(line.split()[1]) * 1024

    def now(self) -> int:
        return self.field("VmRSS")

    def sample(self) -> None:
        while not self.ended.wait(0.05):
            self.samples.append(self.now())

    def stop(self) -> dict:
        self.ended.set()
        self.thread.join()
        ordered = sorted(self.samples) or [self.before]
        return {"before": self.before, "median": ordered[len(ordered) // 2], "highest": self.field("VmHWM"),
                "after": self.now()}


def producer(size: int) -> subprocess.Popen:
    """A fast source of bytes that do not compress, without a file."""
    return subprocess.Popen(
        ["sh", "-c", f"openssl enc -aes-256-ctr -nosalt -K {'00' * 32} -iv {'00' * 16} -in /dev/zero 2>/dev/null"
         f" | head -c {size}"], stdout=subprocess.PIPE)


def create(curl: Curl, server: Running, token: str, deposit: str, name: str, size: int) -> tuple[str, str]:
    made = curl(server, "POST", "/api/v1/uploads", expect=(201,), headers={
        "Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0", "Upload-Length": str(size),
        "Upload-Metadata": metadata(filename=name, deposit=deposit)})
    return made.headers["location"], made.headers["pli-document"]


def patch(curl: Curl, server: Running, token: str, location: str, source: subprocess.Popen) -> float:
    """Streams standard input in one PATCH, without Content-Length."""
    sent = curl(server, "PATCH", pli.path_of(location), upload="-", stdin=source.stdout, expect=(204,), headers={
        "Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0", "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream"})
    if source.stdout is not None:
        source.stdout.close()
    source.wait()
    return sent.seconds


def one(folder: Path, pki: Pki, size: int) -> dict:
    server, token = pli.start_pli(folder, pki)
    curl = Curl(pki, folder)
    with server:
        deposit = pli.new_deposit(curl, server, token)
        location, document = create(curl, server, token, deposit, "scelle.bin", size)
        watch = Watch(server.process.pid)
        seconds = patch(curl, server, token, location, producer(size))
        waited = pli.wait_until_available(curl, server, token, document, size)
        return {**watch.stop(), "size": size, "seconds": seconds + waited}


def many(folder: Path, pki: Pki, count: int, size: int) -> dict:
    server, token = pli.start_pli(folder, pki)
    with server:
        curl = Curl(pki, folder)
        deposit = pli.new_deposit(curl, server, token)
        made = [create(curl, server, token, deposit, f"pièce {n}.bin", size) for n in range(count)]
        watch = Watch(server.process.pid)
        failures: list[BaseException] = []

        def send(number: int) -> None:
            try:
                own = folder / f"curl-{number}"
                own.mkdir()
                # Held back a little, so that all of them are under way together.
                patch(Curl(pki, own, "--limit-rate", "4M"), server, token, made[number][0], producer(size))
            except BaseException as failure:  # noqa: BLE001 - told by the main thread
                failures.append(failure)

        start = time.monotonic()
        threads = [threading.Thread(target=send, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise Failed(f"{len(failures)} of {count} uploads failed: {failures[0]}")
        for _, document in made:
            pli.wait_until_available(curl, server, token, document, size)
        return {**watch.stop(), "size": size * count, "seconds": time.monotonic() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=size_of, default=size_of("1G"))
    parser.add_argument("--large", type=size_of, default=size_of("20G"))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--each", type=size_of, default=size_of("48M"))
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    need("curl", "openssl")
    scratch = Path(tempfile.mkdtemp(prefix="pli-memory-", dir=given.disk))
    result: dict = {"machine": machine()}
    try:
        pki = Pki(scratch / "pki")
        cases = {
            "one upload, small": lambda folder: one(folder, pki, given.small),
            "one upload, large": lambda folder: one(folder, pki, given.large),
            f"{given.count} uploads at once": lambda folder: many(folder, pki, given.count, given.each),
        }
        for name, act in cases.items():
            folder = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
            result[name] = act(folder)
            shutil.rmtree(folder)
            print(f"  {name}: {result[name]['highest'] // MEBI} MiB at most", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    mebi = lambda value: f"{value / MEBI:.0f}"
    print("\nResident memory of pli serve, in MiB")
    print(table(["case", "GiB sent", "idle", "median", "highest", "highest - idle", "MiB/s"],
                [[name, f"{r['size'] / (1 << 30):.1f}", mebi(r["before"]), mebi(r["median"]), mebi(r["highest"]),
                  mebi(r["highest"] - r["before"]), f"{r['size'] / MEBI / r['seconds']:.0f}"]
                 for name, r in result.items() if name != "machine"]))
    goals = [("one upload, small", 64 * MEBI, True), ("one upload, large", 64 * MEBI, True),
             (f"{given.count} uploads at once", 1 << 30, False)]
    met = True
    for name, limit, over_idle in goals:
        used = result[name]["highest"] - (result[name]["before"] if over_idle else 0)
        good = used <= limit
        met = met and good
        print(f"  {name}: {mebi(used)} MiB{' over idle' if over_idle else ' in all'} "
              f"(goal {mebi(limit)}: {'met' if good else 'MISSED'})")
    print(f"\nkept in {keep('memory', result)}")
    return 0 if met else 1


main_of(main)
