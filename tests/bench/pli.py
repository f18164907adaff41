"""How the benchmarks start Pli. Owns: its configuration for a run, its accounts, deposits and documents.

Everything is made with the program's own commands. `start_pli` is the one place to change when the command
line or the configuration changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

from peers import TARGET, Curl, Failed, Pki, Running, free_port, metadata, run

SENDER, READER = "greffe@demo.invalid", "expert@demo.invalid"
ORGANISATION = "Tribunal judiciaire de Démonville (fictif)"


def binary() -> Path:
    path = Path(os.environ.get("PLI_BIN", TARGET / "release" / "pli"))
    if not path.exists():
        raise Failed(f"no release binary at {path}: cargo build --release -p pli, or set PLI_BIN")
    return path


class Pli(Running):
    """A running gateway and the tokens of its two accounts."""

    sender: str
    reader: str


def start_pli(folder: Path, pki: Pki, backend: str = "embedded") -> tuple[Pli, str]:
    """Starts `pli serve` on a fresh folder; gives the server and a bearer token of a sender."""
    program = binary()
    port, operations = free_port(), free_port()
    home = folder / "pli"
    (home / "data" / "keys").mkdir(parents=True)
    passphrase = home / "data" / "keys" / "passphrase"
    passphrase.write_text("phrase de passe du banc d'essai\n")
    passphrase.chmod(0o600)
    configuration = home / "pli.toml"
    # connections_per_address: every client of a benchmark comes from this machine.
    lines = [f'data = "{home}/data"', "[listen]", f'addresses = ["127.0.0.1:{port}"]', "[tls]",
             f'certificate = "{pki.cert}"', f'key = "{pki.key}"', "[operations]",
             f'address = "127.0.0.1:{operations}"', "[limits]", "connections_per_address = 0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLI_")}
    if backend == "services":
        lines += services(environment)
    configuration.write_text("\n".join(lines) + "\n")

    def pli(*arguments: str) -> str:
        try:
            return run(str(program), "--config", str(configuration), *arguments, env=environment).stdout
        except subprocess.CalledProcessError as failure:
            raise Failed(f"pli {' '.join(arguments)}: {failure.stdout}{failure.stderr}") from failure

    pli("keys", "init")
    pli("migrate")
    pli("org", "add", ORGANISATION)
    tokens = []
    for address in (SENDER, READER):
        pli("user", "add", address, "--name", f"{address} (compte fictif)", "--org", ORGANISATION)
        tokens.append(next(word for word in pli("token", "add", address).split() if word.startswith("pli_")))

    log = home / "pli.log"
    process = subprocess.Popen([str(program), "--config", str(configuration), "serve"], stdout=log.open("ab"),
                               stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)
    server = Pli("pli", f"https://127.0.0.1:{port}", process, log)
    server.sender, server.reader = tokens
    ready(server, operations)
    return server, server.sender


def services(environment: dict[str, str]) -> list[str]:
    """A database of its own on the PostgreSQL, and the bucket of the S3 service, of tests/env/with.sh."""
    try:
        postgres = os.environ["PLI_TEST_POSTGRES"]
        s3 = {name: os.environ[f"PLI_TEST_S3_{name}"]
              for name in ("ENDPOINT", "REGION", "BUCKET", "ACCESS_KEY", "SECRET_KEY")}
    except KeyError as missing:
        raise Failed(f"{missing} is not set: run under tests/env/with.sh postgres garage1 -- …") from missing
    name = f"bench_{uuid.uuid4().hex}"
    run("psql", postgres, "-qc", f"CREATE DATABASE {name}")
    environment["PLI_STORE__SECRET_KEY"] = s3["SECRET_KEY"]
    return ["[database]", f'url = "{postgres.rsplit("/", 1)[0]}/{name}"', "[store]", 'kind = "s3"',
            f'endpoint = "{s3["ENDPOINT"]}"', f'region = "{s3["REGION"]}"', f'bucket = "{s3["BUCKET"]}"',
            f'access_key = "{s3["ACCESS_KEY"]}"']


def ready(server: Pli, operations: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise Failed(f"pli serve ended with {server.process.returncode}: {server.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{operations}/readyz", timeout=10) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.02)
    server.stop()
    raise Failed(f"pli serve was not ready within a minute: {server.log.read_text()[-2000:]}")


def path_of(location: str) -> str:
    return location if location.startswith("/") else "/" + location.split("/", 3)[3]


def ask(curl: Curl, server: Running, token: str, path: str, method: str = "GET", body: dict | None = None) -> dict:
    """A small JSON request, always by curl itself: nothing that is measured is asked through here."""
    out = curl.folder / "answer.json"
    headers = {"Authorization": f"Bearer {token}"}
    options = []
    if body is not None:
        options = ["--data-binary", json.dumps(body)]
        headers["Content-Type"] = "application/json"
    elif method == "POST":
        options = ["--data-binary", ""]
    Curl.__call__(curl, server, method, path, *options, headers=headers, output=str(out), expect=(200, 201, 202, 404))
    return json.loads(out.read_text())


def new_deposit(curl: Curl, server: Running, token: str) -> str:
    body = {"recipients": [READER], "subject": "Procédure fictive du banc d'essai"}
    return ask(curl, server, token, "/api/v1/deposits", "POST", body)["id"]


def wait_until_available(curl: Curl, server: Running, token: str, document: str, size: int) -> float:
    """Seconds from now until the document is finished; the API has no event, so it is asked again."""
    start = time.monotonic()
    while True:
        told = ask(curl, server, token, f"/api/v1/documents/{document}")
        if told["state"] == "available":
            if told["size"] != size or not told["sha256"]:
                raise Failed(f"not what was sent: {told}")
            return time.monotonic() - start
        if told["state"] == "damaged" or time.monotonic() - start > 300:
            raise Failed(f"not finished: {told}; see {server.log}")
        time.sleep(0.02)


def wait_until_all_available(curl: Curl, server: Running, token: str, deposit: str, count: int) -> None:
    start = time.monotonic()
    while True:
        documents = ask(curl, server, token, f"/api/v1/deposits/{deposit}")["documents"]
        states = [document["state"] for document in documents]
        if len(states) != count:
            raise Failed(f"{len(states)} documents instead of {count}")
        if all(state == "available" for state in states):
            return
        if "damaged" in states or time.monotonic() - start > 300:
            raise Failed(f"not finished: {states.count('available')} of {count}; see {server.log}")
        time.sleep(0.02)


def sent_document(curl: Curl, server: Pli, token: str, source: Path, size: int) -> tuple[str, str]:
    """Uploads the file and sends its deposit; gives the path of the content and the reader's token."""
    deposit = new_deposit(curl, server, token)
    headers = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
    made = curl(server, "POST", "/api/v1/uploads", expect=(201,), headers={
        **headers, "Upload-Length": str(size), "Upload-Metadata": metadata(filename="scelle.bin", deposit=deposit)})
    curl(server, "PATCH", path_of(made.headers["location"]), upload=str(source), expect=(204,), headers={
        **headers, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"})
    document = made.headers["pli-document"]
    wait_until_available(curl, server, token, document, size)
    ask(curl, server, token, f"/api/v1/deposits/{deposit}/send", "POST")
    start = time.monotonic()
    while ask(curl, server, server.reader, f"/api/v1/deposits/{deposit}").get("state") != "available":
        if time.monotonic() - start > 60:
            raise Failed(f"the deposit did not come to its recipient; see {server.log}")
        time.sleep(0.02)
    return f"/api/v1/documents/{document}/content", server.reader
