"""tuspy, unchanged, against Pli: uploads in chunks, is cut in the middle of a request, resumes with a new
uploader from the stored address, sends a wrong checksum and expects 460, and compares the SHA-256.

    PLI_SERVER=https://127.0.0.1:PORT PLI_TOKEN=pli_… PLI_CA=root.pem \
        python tuspy_client.py DEPOSIT FILE

Exits with 1 on any difference. FILE should have at least 24 MiB.
"""

import hashlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from urllib.parse import urlsplit, urlunsplit

import requests
from tusclient import client, exceptions
from tusclient.storage import filestorage
from tusclient.uploader import Uploader

SERVER = os.environ["PLI_SERVER"].rstrip("/")
HEADERS = {"Authorization": "Bearer " + os.environ["PLI_TOKEN"]}
MEBI = 1 << 20
# requests, below tuspy, takes its authority from here.
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["PLI_CA"]


class Sha256Uploader(Uploader):
    """tuspy's own point of change for the algorithm (its default is sha1)."""

    CHECKSUM_ALGORITHM_PAIR = ("sha256", hashlib.sha256)


class WrongUploader(Uploader):
    """Says the SHA-1 of something else."""

    CHECKSUM_ALGORITHM_PAIR = ("sha1", lambda chunk: hashlib.sha1(chunk + b"!"))


class Scissors:
    """Forwards one connection to the server and cuts it, without a word, after `bytes_` sent."""

    def __init__(self, bytes_: int) -> None:
        target = urlsplit(SERVER)
        self.target, self.left = (target.hostname, target.port), bytes_
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while self.left > 0:
            near, _ = self.listener.accept()
            far = socket.create_connection(self.target)
            threading.Thread(target=self.back, args=(far, near), daemon=True).start()
            while self.left > 0 and (piece := near.recv(65536)):
                self.left -= len(piece)
                far.sendall(piece)
            for end in (near, far):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
        self.listener.close()

    @staticmethod
    def back(far: socket.socket, near: socket.socket) -> None:
        try:
            while piece := far.recv(65536):
                near.sendall(piece)
        except OSError:
            pass


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def offset(url: str) -> int:
    answer = requests.head(url, headers={**HEADERS, "Tus-Resumable": "1.0.0"})
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["Upload-Offset"])


def verify(deposit: str, name: str, path: str) -> None:
    """The document of that name in the deposit has the size and the SHA-256 of the file."""
    deadline = time.monotonic() + 120
    while True:
        answer = requests.get(f"{SERVER}/api/v1/deposits/{deposit}", headers=HEADERS)
        assert answer.status_code == 200, answer.text
        found = [d for d in answer.json()["documents"] if d["name"] == name]
        assert len(found) == 1, json.dumps(answer.json()["documents"], ensure_ascii=False)
        assert found[0]["state"] != "damaged"
        if found[0]["state"] == "available":
            assert found[0]["size"] == os.path.getsize(path), found[0]
            assert found[0]["sha256"] == sha256(path), found[0]
            return
        assert time.monotonic() < deadline, f"still {found[0]['state']} after two minutes"
        time.sleep(0.05)


def main() -> None:
    deposit, path = sys.argv[1:]
    size = os.path.getsize(path)
    assert size >= 24 * MEBI, "the file is too small to be cut in the middle"
    tus = client.TusClient(SERVER + "/api/v1/uploads", headers=HEADERS)

    def metadata(name: str) -> dict:
        return {"filename": name, "filetype": "application/octet-stream", "deposit": deposit}

    # Chunks with sha1 and sha256, stopped half-way, resumed by another uploader that only has the store.
    with tempfile.TemporaryDirectory() as scratch:
        for kind in (Uploader, Sha256Uploader):
            algorithm = kind.CHECKSUM_ALGORITHM_PAIR[0]
            name = f"tuspy {algorithm} – pièce n° 2.bin"
            storage = filestorage.FileStorage(os.path.join(scratch, algorithm))
            arguments = dict(file_path=path, client=tus, chunk_size=5 * MEBI, metadata=metadata(name),
                             store_url=True, url_storage=storage, upload_checksum=True)
            first = kind(**arguments)
            first.upload(stop_at=11 * MEBI)
            # A stop_at inside a chunk ends the chunk there: what is said to be durable is just that.
            assert offset(first.url) == first.offset == 11 * MEBI, (offset(first.url), first.offset)
            second = kind(**arguments)
            assert second.url == first.url and second.offset == 11 * MEBI, (second.url, second.offset)
            second.upload()
            assert offset(second.url) == size
            verify(deposit, name, path)
            storage.close()
            print(f"{algorithm}: stopped, resumed at {11 * MEBI}, equal")

    # One PATCH of the whole file, cut by the network in the middle.
    name = "tuspy coupure – pièce n° 3.bin"
    whole = Uploader(file_path=path, client=tus, metadata=metadata(name))
    whole.set_url(whole.create_url())
    url = whole.url
    cut = Scissors(size // 2)
    whole.set_url(urlunsplit(urlsplit(cut.url)._replace(path=urlsplit(url).path)))
    try:
        whole.upload()
        raise AssertionError("the cut was not noticed")
    except (exceptions.TusUploadFailed, exceptions.TusCommunicationError):
        pass
    again = Uploader(file_path=path, client=tus, url=url, metadata=metadata(name))
    resumed = again.offset
    assert 0 <= resumed < size * 3 // 4, resumed
    again.upload()
    verify(deposit, name, path)
    print(f"cut: resumed at {resumed} of {size}, equal")

    # A wrong checksum is refused with 460, nothing of it is kept, and the right bytes are taken after it.
    name = "tuspy somme fausse – pièce n° 4.bin"
    wrong = WrongUploader(file_path=path, client=tus, chunk_size=5 * MEBI, metadata=metadata(name), upload_checksum=True)
    try:
        wrong.upload_chunk()
        raise AssertionError("a wrong checksum was accepted")
    except exceptions.TusUploadFailed as refusal:
        assert refusal.status_code == 460, refusal.status_code
    assert offset(wrong.url) == 0, "bytes with a wrong checksum were kept"
    right = Uploader(file_path=path, client=tus, chunk_size=5 * MEBI, url=wrong.url, metadata=metadata(name),
                     upload_checksum=True)
    right.upload()
    verify(deposit, name, path)
    print("wrong checksum: 460, nothing kept, then equal")


main()
