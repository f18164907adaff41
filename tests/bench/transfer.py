"""Transfers of one large file over TLS on loopback: Pli beside @tus/server and nginx, in one run.

Owns: the rounds, the medians, the ratios. Each round goes through every server once, in turn, so
that a machine that slows down slows all of them down; every server starts on an empty store.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pli
from peers import (Curl, Failed, Lean, Pki, Running, Transfer, keep, machine, main_of, make_input, metadata, need, size_of,
                   start_nginx, start_tus, table)

MEBI = 1 << 20


class Bench:
    def __init__(self, size: int, source: Path, scratch: Path, client: type[Curl]) -> None:
        self.size, self.source, self.scratch = size, source, scratch
        self.pki = Pki(scratch / "pki")
        self.curl = client(self.pki, scratch)

    def fresh(self, store: Path) -> Path:
        return Path(tempfile.mkdtemp(prefix="pli-bench-", dir=store))

    def warm(self, memory: Path) -> None:
        """Touches as much memory as a round needs: a virtual machine is slow on pages it never had."""
        folder = self.fresh(memory)
        try:
            for number in range(2):
                shutil.copyfile(self.source, folder / f"warm-{number}")
        finally:
            shutil.rmtree(folder)

    # One upload each. Every one returns the transfer of the body; what went before is told apart.

    def upload_nginx(self, store: Path) -> dict:
        folder = self.fresh(store)
        try:
            with start_nginx(folder, self.pki) as server:
                sent = self.curl(server, "PUT", "/scelle.bin", upload=str(self.source))
                self.check_length(folder / "store" / "scelle.bin")
                return self.told(sent)
        finally:
            shutil.rmtree(folder)

    def upload_tus(self, store: Path) -> dict:
        folder = self.fresh(store)
        try:
            with start_tus(folder, self.pki) as server:
                made = self.curl(server, "POST", "/files", expect=(201,), headers={
                    "Tus-Resumable": "1.0.0", "Upload-Length": str(self.size),
                    "Upload-Metadata": metadata(filename="scelle.bin")})
                sent = self.patch(server, made.headers["location"], {})
                self.check_length(next(p for p in (folder / "store").iterdir() if p.suffix != ".json"))
                return self.told(sent)
        finally:
            shutil.rmtree(folder)

    def upload_pli(self, store: Path) -> dict:
        folder = self.fresh(store)
        try:
            server, token = pli.start_pli(folder, self.pki)
            with server:
                deposit = pli.new_deposit(self.curl, server, token)
                made = self.curl(server, "POST", "/api/v1/uploads", expect=(201,), headers={
                    "Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0", "Upload-Length": str(self.size),
                    "Upload-Metadata": metadata(filename="scelle.bin", deposit=deposit)})
                sent = self.patch(server, made.headers["location"], {"Authorization": f"Bearer {token}"})
                result = self.told(sent)
                result["seconds_until_available"] = sent.seconds + pli.wait_until_available(
                    self.curl, server, token, made.headers["pli-document"], self.size)
                return result
        finally:
            shutil.rmtree(folder)

    def patch(self, server: Running, location: str, extra: dict[str, str]) -> Transfer:
        # The npm server writes http: in its answer behind TLS: only the path is taken.
        sent = self.curl(server, "PATCH", pli.path_of(location), upload=str(self.source), expect=(204,), headers={
            "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
            **extra})
        if int(sent.headers["upload-offset"]) != self.size:
            raise Failed(f"{server.name} says offset {sent.headers['upload-offset']}, not {self.size}")
        return sent

    def dd(self, store: Path) -> dict:
        """What the disk itself takes: one writer, one file, one fsync at the end."""
        folder = self.fresh(store)
        try:
            start = time.monotonic()
            subprocess.run(["dd", f"if={self.source}", f"of={folder}/dd", "bs=1M", "conv=fsync", "status=none"],
                           check=True)
            return {"seconds": time.monotonic() - start}
        finally:
            shutil.rmtree(folder)

    def download_nginx(self, store: Path) -> dict:
        folder = self.fresh(store)
        try:
            with start_nginx(folder, self.pki) as server:
                # A copy on the same store, so that both servers read from the same place.
                shutil.copyfile(self.source, folder / "store" / "scelle.bin")
                return self.told(self.download(server, "/scelle.bin", {}))
        finally:
            shutil.rmtree(folder)

    def download_pli(self, store: Path) -> dict:
        folder = self.fresh(store)
        try:
            server, token = pli.start_pli(folder, self.pki)
            with server:
                path, reader = pli.sent_document(self.curl, server, token, self.source, self.size)
                return self.told(self.download(server, path, {"Authorization": f"Bearer {reader}"}))
        finally:
            shutil.rmtree(folder)

    def download(self, server: Running, path: str, headers: dict[str, str]) -> Transfer:
        got = self.curl(server, "GET", path, headers=headers, expect=(200,))
        if got.received != self.size:
            raise Failed(f"{server.name} gave {got.received} bytes, not {self.size}")
        return got

    def check_length(self, path: Path) -> None:
        if path.stat().st_size != self.size:
            raise Failed(f"{path.name} holds {path.stat().st_size} bytes, not {self.size}")

    def told(self, one: Transfer) -> dict:
        return {"seconds": one.seconds, "client_processor": one.client_processor,
                "server_processor": one.server_processor}


def rounds(count: int, contestants: dict, store: Path) -> dict[str, list[dict]]:
    seen: dict[str, list[dict]] = {name: [] for name in contestants}
    for number in range(count):
        for name, act in contestants.items():
            seen[name].append(act(store))
            print(f"  round {number + 1}/{count} {name}: {seen[name][-1]['seconds']:.2f} s", file=sys.stderr)
    return seen


def summary(seen: dict[str, list[dict]], size: int) -> dict[str, dict]:
    result = {}
    for name, runs in seen.items():
        seconds = [one["seconds"] for one in runs]
        speed = size / MEBI / statistics.median(seconds)
        entry: dict = {"median_mib_s": round(speed, 1),
                       "worst_mib_s": round(size / MEBI / max(seconds), 1),
                       "best_mib_s": round(size / MEBI / min(seconds), 1), "runs": runs}
        for who in ("client", "server"):
            shares = [one[f"{who}_processor"] / one["seconds"] for one in runs if f"{who}_processor" in one]
            if shares:
                entry[f"{who}_cores"] = round(statistics.median(shares), 2)
        until = [one["seconds_until_available"] for one in runs if "seconds_until_available" in one]
        if until:
            entry["median_mib_s_until_available"] = round(size / MEBI / statistics.median(until), 1)
        result[name] = entry
    return result


def show(title: str, result: dict[str, dict], goals: list[tuple[str, str, float]]) -> list[dict]:
    print(f"\n{title}")
    print(table(["server", "MiB/s (median)", "worst", "best", "server cores", "client cores"],
                [[name, entry["median_mib_s"], entry["worst_mib_s"], entry["best_mib_s"],
                  entry.get("server_cores", ""), entry.get("client_cores", "")] for name, entry in result.items()]))
    ratios = []
    for one, other, goal in goals:
        if one in result and other in result:
            ratio = round(result[one]["median_mib_s"] / result[other]["median_mib_s"], 2)
            met = ratio >= goal
            ratios.append({"of": one, "to": other, "ratio": ratio, "goal": goal, "met": met})
            print(f"  {one} / {other} = {ratio:.2f} (goal {goal:g}: {'met' if met else 'MISSED'})")
    base = result.get("tus-node")
    if base and "nginx" in result:
        print(f"  nginx / tus-node = {result['nginx']['median_mib_s'] / base['median_mib_s']:.2f}")
    return ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=size_of, default=size_of("2G"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a tmpfs: the processor is the limit")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="a folder on the disk")
    parser.add_argument("--cases", default="memory,disk,download", help="which of memory, disk, download")
    parser.add_argument("--client", choices=("lean", "curl"), default="lean")
    parser.add_argument("--without", default="", help="servers to leave out, for instance pli")
    given = parser.parse_args()
    need("nginx", "curl", "openssl", "node")
    without = set(filter(None, given.without.split(",")))
    if "pli" not in without:
        pli.binary()
    scratch = Path(tempfile.mkdtemp(prefix="pli-bench-", dir=given.memory))
    result: dict = {"machine": machine(), "size": given.size, "rounds": given.rounds,
                    "client": given.client}
    try:
        source = scratch / "source.bin"
        make_input(source, given.size)
        bench = Bench(given.size, source, scratch, Lean if given.client == "lean" else Curl)
        bench.warm(given.memory)
        chosen = lambda **all_of_them: {n.replace("_", "-"): a for n, a in all_of_them.items()
                                        if n.replace("_", "-") not in without}
        if "memory" in given.cases:
            seen = rounds(given.rounds, chosen(pli=bench.upload_pli, tus_node=bench.upload_tus,
                                               nginx=bench.upload_nginx), given.memory)
            result["upload_memory"] = summary(seen, given.size)
            result["upload_memory_ratios"] = show("Upload, store in memory (the processor is the limit)",
                                                  result["upload_memory"],
                                                  [("pli", "tus-node", 2.0), ("pli", "nginx", 0.7)])
        if "disk" in given.cases:
            seen = rounds(given.rounds, chosen(pli=bench.upload_pli, tus_node=bench.upload_tus,
                                               nginx=bench.upload_nginx, dd=bench.dd), given.disk)
            result["upload_disk"] = summary(seen, given.size)
            result["upload_disk_ratios"] = show(
                "Upload, store on disk (only Pli and dd wait for the disk: nginx and tus-node never call fsync)",
                result["upload_disk"], [("pli", "dd", 0.8)])
        if "download" in given.cases:
            seen = rounds(given.rounds, chosen(pli=bench.download_pli, nginx=bench.download_nginx), given.memory)
            result["download"] = summary(seen, given.size)
            result["download_ratios"] = show("Download, from memory", result["download"], [("pli", "nginx", 0.6)])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"\nkept in {keep('transfer', result)}")
    missed = [r for key, ratios in result.items() if key.endswith("_ratios") for r in ratios if not r["met"]]
    return 1 if missed else 0


main_of(main)
