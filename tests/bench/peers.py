"""What every benchmark here shares: a certificate, the peers, curl, processor time.

Owns: starting and stopping nginx and the npm tus server on loopback, behind one certificate, and
reading what a process cost from /proc. Must never: measure (that is transfer.py's, memory.py's and
small.py's work), or give one server a setting that another is denied.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RESULTS = TARGET / "bench"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server did not start, or a client saw what it should not have."""


def run(*command: str, **keywords) -> subprocess.CompletedProcess:
    return subprocess.run(command, check=True, text=True, capture_output=True, **keywords)


def need(*commands: str) -> None:
    packages = {"nginx": "nginx-light", "curl": "curl", "openssl": "openssl", "node": "nodejs"}
    missing = [name for name in commands if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None]
    if missing:
        raise Failed("missing: " + " ".join(missing) + " (Debian: apt-get install --no-install-recommends "
                     + " ".join(packages.get(name, name) for name in missing) + ")")


@dataclass
class Pki:
    """A throw-away authority and one server certificate for 127.0.0.1, the same for every server."""

    folder: Path
    ca: Path = field(init=False)
    cert: Path = field(init=False)
    key: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.cert, self.key = (self.folder / n for n in ("ca.pem", "server.pem", "server.key"))
        authority = self.folder / "ca.key"
        request, extensions = self.folder / "server.csr", self.folder / "server.ext"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("openssl", "req", "-x509", *curve, "-keyout", str(authority), "-out", str(self.ca), "-days", "2",
            "-subj", "/CN=Pli bench authority", "-addext", "keyUsage=critical,keyCertSign")
        run("openssl", "req", *curve, "-keyout", str(self.key), "-out", str(request), "-subj", "/CN=localhost")
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
                              "keyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\n")
        run("openssl", "x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(authority),
            "-CAcreateserial", "-days", "2", "-out", str(self.cert), "-extfile", str(extensions))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"the server ended with {process.returncode} before it listened")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise Failed(f"nothing listened on port {port} within {seconds:.0f} s")


def family(pid: int) -> list[int]:
    """A process and its children, at any depth."""
    found = [pid]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue
        found.extend(int(child) for child in children)
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process and of its living children."""
    total = 0
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


@dataclass
class Running:
    """A started server: where it answers, its process, how to stop it."""

    name: str
    url: str
    process: subprocess.Popen
    log: Path

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_) -> None:
        self.stop()


def start_nginx(folder: Path, pki: Pki) -> Running:
    """nginx with its own WebDAV PUT and static files, both over TLS, in the foreground."""
    port = free_port()
    store, log = folder / "store", folder / "nginx.log"
    # The temporary folder is inside the store's file system, so that the end of a PUT is a rename.
    for name in ("store", "body"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(f"""{user}
worker_processes auto;
pid {folder}/nginx.pid;
error_log {log} warn;
daemon off;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {pki.cert};
    ssl_certificate_key {pki.key};
    ssl_protocols TLSv1.3;
    ssl_buffer_size 16k;
    root {store};
    location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
  }}
}}
""")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(configuration)],
                               stdout=subprocess.DEVNULL, stderr=log.open("ab"),
                               env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
    wait_for_port(port, process)
    return Running("nginx", f"https://127.0.0.1:{port}", process, log)


def start_tus(folder: Path, pki: Pki) -> Running:
    """@tus/server with @tus/file-store behind node's https, production mode."""
    home = Path(run(str(CLIENTS / "install.sh")).stdout.strip())
    store, log = folder / "store", folder / "tus.log"
    store.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = subprocess.Popen(
        ["node", str(home / "tus-server.mjs")], stdout=log.open("ab"), stderr=subprocess.STDOUT,
        env={**os.environ, "TUS_DIR": str(store), "TLS_CERT": str(pki.cert), "TLS_KEY": str(pki.key),
             "TUS_PORT": str(port), "NODE_ENV": "production"})
    wait_for_port(port, process)
    return Running("tus-node", f"https://127.0.0.1:{port}", process, log)


@dataclass
class Transfer:
    """What one curl did: bytes, seconds of wall clock, seconds of processor, answer."""

    status: int
    sent: int
    received: int
    seconds: float
    client_processor: float
    server_processor: float
    headers: dict[str, str]


class Curl:
    """Debian's curl, one process a request, the same options for every server. On two cores it is close to
    one full core at the speed of nginx, so that it also measures itself: see `Lean`.

    TLS 1.3 with AES-256-GCM and HTTP/1.1 are pinned, so that no server has a cheaper cipher or
    framing than another.
    """

    def __init__(self, pki: Pki, folder: Path, *options: str) -> None:
        self.folder = folder
        self.base = ["curl", "--silent", "--show-error", "--http1.1", "--tlsv1.3",
                     "--tls13-ciphers", "TLS_AES_256_GCM_SHA384", "--cacert", str(pki.ca),
                     "--header", "Expect:", "--write-out", "%{json}", *options]

    def __call__(self, server: Running, method: str, path: str, *options: str, headers: dict[str, str] | None = None,
                 upload: str | None = None, output: str = "/dev/null", expect: tuple[int, ...] = (200, 201, 204),
                 stdin=None) -> Transfer:
        url = path if path.startswith("https:") else server.url + path
        answer_headers = self.folder / "curl-headers"
        command = [*self.base, "--dump-header", str(answer_headers), "--output", output, *options]
        for name, value in (headers or {}).items():
            command += ["--header", f"{name}: {value}"]
        if upload is not None:
            command += ["--upload-file", upload]
        if method == "HEAD":
            command += ["--head"]
        elif not (method == "GET" and upload is None) and not (method == "PUT" and upload is not None):
            command += ["--request", method]
        before = processor_seconds(server.process.pid)
        client = subprocess.Popen([*command, url], stdin=stdin or subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        usage_before = os.times()
        out, err = client.communicate()
        usage = os.times()
        after = processor_seconds(server.process.pid)
        if client.returncode != 0:
            raise Failed(f"curl {method} {path}: {err.strip()}; see {server.log}")
        told = json.loads(out)
        if told["http_code"] not in expect:
            raise Failed(f"{server.name} answered {told['http_code']} to {method} {path}; see {server.log}")
        seen = {}
        for line in answer_headers.read_text(errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                seen[name.strip().lower()] = value.strip()
        client_cost = (usage.children_user + usage.children_system
                       - usage_before.children_user - usage_before.children_system)
        return Transfer(told["http_code"], told["size_upload"], told["size_download"], told["time_total"],
                        client_cost, after - before, seen)


class Lean(Curl):
    """`bench-client` (tests/src/bin): the same requests with less work in the client than curl needs."""

    def __init__(self, pki: Pki, folder: Path) -> None:
        super().__init__(pki, folder)
        self.ca = pki.ca
        self.program = TARGET / "release" / "bench-client"
        if not self.program.exists():
            raise Failed(f"no {self.program}: cargo build --release -p pli-tests --bin bench-client, or --client curl")

    def __call__(self, server: Running, method: str, path: str, *options: str, headers: dict[str, str] | None = None,
                 upload: str | None = None, output: str = "/dev/null", expect: tuple[int, ...] = (200, 201, 204),
                 stdin=None) -> Transfer:
        url = path if path.startswith("https:") else server.url + path
        command = [str(self.program), method, url, "--ca", str(self.ca)]
        for name, value in (headers or {}).items():
            command += ["--header", f"{name}: {value}"]
        if upload is not None:
            command += ["--file", upload]
        before, usage_before = processor_seconds(server.process.pid), os.times()
        # The C library would give the records' memory back after each mebibyte and fetch it again: half a
        # second of a gigabyte, in the client.
        thrifty = {"MALLOC_TRIM_THRESHOLD_": str(1 << 28), "MALLOC_TOP_PAD_": str(1 << 26)}
        done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, **thrifty})
        usage, after = os.times(), processor_seconds(server.process.pid)
        if done.returncode != 0:
            raise Failed(f"bench-client {method} {path}: {done.stderr.strip()}; see {server.log}")
        told = json.loads(done.stdout)
        if told["http_code"] not in expect:
            raise Failed(f"{server.name} answered {told['http_code']} to {method} {path}; see {server.log}")
        cost = (usage.children_user + usage.children_system - usage_before.children_user - usage_before.children_system)
        return Transfer(told["http_code"], told["size_upload"], told["size_download"], told["time_total"],
                        cost, after - before, told["headers"])


def metadata(**pairs: str) -> str:
    """tus Upload-Metadata."""
    from base64 import b64encode
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs.items())


def size_of(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    text = text.strip().upper().removesuffix("IB").removesuffix("B")
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


def make_input(path: Path, size: int) -> None:
    """Bytes that do not compress, written once: what they are does not matter here, only how many."""
    if path.exists() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        # A key stream is several times faster than the system's random device.
        producer = subprocess.Popen(
            ["openssl", "enc", "-aes-256-ctr", "-nosalt", "-K", "00" * 32, "-iv", "00" * 16, "-in", "/dev/zero"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert producer.stdout is not None
        left = size
        while left:
            piece = producer.stdout.read(min(left, 1 << 22))
            file.write(piece)
            left -= len(piece)
        producer.kill()
        producer.wait()


def machine() -> dict[str, str | int]:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // (1 << 20)
    load = Path("/proc/loadavg").read_text().split()[0]
    return {"processor": model, "cores": os.cpu_count() or 0, "memory_gib": memory, "load_at_start": load}


def keep(name: str, result: dict) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = RESULTS / f"{name}-{stamp}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    latest = RESULTS / f"{name}.json"
    latest.unlink(missing_ok=True)
    latest.symlink_to(path.name)
    return path


def table(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(str(row[i])) for row in [headings, *rows]) for i in range(len(headings))]
    def line(row):
        return "  ".join(str(cell).ljust(w) if i == 0 else str(cell).rjust(w)
                         for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
    return "\n".join([line(headings), line(["-" * w for w in widths]), *map(line, rows)])


def main_of(function) -> None:
    try:
        sys.exit(function())
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        sys.exit(1)
