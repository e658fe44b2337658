"""A Hugging Face Hub on the loopback: real HTTP, the Hub's protocol for models, reading of data sets, faults on demand.

It holds repositories in memory: branches of commits, regular files, large files stored by their SHA-256 and uploaded
by the LFS protocol (in one piece, or in parts), pull requests, public and private repositories, tokens that may read or
write. It is as strict as the Hub: a commit is refused whole if any part of it is wrong.

Storage by Xet is left out: its client is compiled and speaks to content-addressed storage servers of its own. With
``HF_HUB_DISABLE_XET=1`` the Hub's client uploads by LFS instead.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = 20_000  # bytes from which a file is large; on the Hub it is 10 MB
PART = 30_000  # bytes from which a large file is uploaded in parts of this size; on the Hub it is 5 GB
TEXTS = ("license", "pipeline_tag")  # keys of a card's metadata
LICENCES = ["apache-2.0", "cc-by-sa-4.0", "mit"]  # on the Hub there are more
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class Refusal(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        self.status, self.message = status, message
        self.headers = headers | ({"X-Error-Code": code} if code else {})
        if message.isprintable():  # in the body it is anyway
            self.headers["X-Error-Message"] = message


@dataclass(frozen=True)
class File:
    """Content of a file in a commit; a large one is stored outside git."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def blob(self) -> str:
        """What git calls it; for a large file, the blob is the pointer."""
        content = self.content
        if self.large:
            content = f"version https://git-lfs\noid sha256:{self.sha256}\nsize {len(content)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def lfs(self) -> dict[str, Any] | None:
        return {"size": len(self.content), "oid": self.sha256, "pointerSize": 134} if self.large else None


@dataclass
class Repo:
    """A repository: commits by SHA, and where the branches and pull requests are."""

    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    pull_requests: list[str] = field(default_factory=list)  # their titles

    def commit(self, branch: str, files: dict[str, File], message: str) -> str:
        listing = json.dumps([len(self.commits), *((name, file.blob) for name, file in sorted(files.items()))])
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha], self.messages[sha], self.heads[branch] = files, message, sha
        return sha

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Contents of a branch, or a commit, by name; without what the Hub itself put there."""
        files = self.commits[self.heads.get(revision, revision)]
        return {name: file.content for name, file in files.items() if name != ".gitattributes"}


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests whose ``METHOD PATH`` has ``pattern`` in it.

    ``status`` answers with an error; without it the connection is reset after ``after`` bytes of the request's body,
    or, with ``answered``, when all is done but the answer not sent.
    """

    pattern: str
    status: int | None = None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "out of order"
    after: int = 0
    answered: bool = False


class HubServer:
    """The server; use it as a context manager. ``requests`` has what was asked, as ``METHOD PATH``."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.storage = f"http://localhost:{port}"  # another host to the client, as on the Hub: tokens do not go there

    def reset(self) -> None:
        """Forget everything."""
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.tokens: dict[str, tuple[str, bool]] = {}  # token -> its owner, and whether it may write
        self.roles: dict[str, str] = {}  # token -> what the Hub calls its role, if that is neither read nor write
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.corrupt: set[str] = set()  # names of files that are handed out damaged

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, pattern: str) -> int:
        """Number of requests so far that match."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    def make_repo(self, name: str, private: bool = False, files: dict[str, bytes] | None = None) -> Repo:
        """Make a repository as the Hub does, then commit the files."""
        repo = self.repos[name] = Repo(private)
        first = {".gitattributes": File(GIT_ATTRIBUTES, large=False)}
        repo.commit("main", first, "initial commit")
        if files:
            added = {path: File(content, path.endswith(".safetensors")) for path, content in files.items()}
            self.stored |= {file.sha256: file.content for file in added.values() if file.large}
            repo.commit("main", first | added, "files")
        return repo


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle_request(self) -> None:
        address = urlsplit(self.path)
        self.place, self.query = unquote(address.path), parse_qs(address.query)
        request = f"{self.command} {self.place}"
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = next((f for f in self.hub.faults if f.times and re.search(f.pattern, request)), None)
            if fault:
                fault.times -= 1
        if fault and fault.status is None and not fault.answered:
            self.rfile.read(min(fault.after, int(self.headers.get("Content-Length") or 0)))
            return self.break_off()
        self.body = self.read_body()
        try:
            if fault and fault.status:
                raise Refusal(fault.status, fault.message, **fault.headers)
            with self.hub.lock:
                answer = self.route()
        except Refusal as refusal:
            document = {"error": refusal.message}
            return self.answer(refusal.status, json.dumps(document).encode(), refusal.headers)
        if fault and fault.answered:
            return self.break_off()
        self.answer(*answer)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def break_off(self) -> None:
        """Reset the connection, as a cable that is pulled or a proxy that dies."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # What is asked for

    def route(self) -> tuple[int, bytes, dict[str, str]]:
        routes = {
            r"GET /api/whoami-v2": self.whoami,
            r"POST /api/validate-yaml": self.validate,
            r"POST /api/repos/create": self.create,
            r"GET /api/(models|datasets)/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>.+))?": self.info,
            r"GET /api/(models|datasets)/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>.+)": self.tree,
            r"GET /api/models/(?P<repo>[^/]+/[^/]+)/discussions": self.discussions,
            r"POST /api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<branch>.+)": self.branch,
            r"POST /api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>.+)": self.preupload,
            r"POST /api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>.+)": self.commit,
            r"POST /(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch": self.batch,
            r"PUT /storage/(?P<oid>\w{64})(/(?P<part>\d+))?": self.store,
            r"POST /storage/(?P<oid>\w{64})": self.complete,
            r"POST /verify/(?P<oid>\w{64})": self.verify,
            r"(GET|HEAD) (/datasets)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+|refs/pr/\d+)/(?P<name>.+)": (
                self.resolve
            ),
            r"(GET|HEAD) /cdn/(?P<oid>\w{64})/(?P<name>.+)": self.cdn,
        }
        for pattern, method in routes.items():
            if match := re.fullmatch(pattern, f"{self.command} {self.place}"):
                document = method(**{key: value for key, value in match.groupdict().items() if value is not None})
                return document if isinstance(document, tuple) else (200, json.dumps(document).encode(), {})
        raise Refusal(404, f"no such address: {self.command} {self.place}")

    def user(self, write: bool = False) -> str | None:
        """Who asks; the Hub takes a wrong token for a mistake, not for a visitor."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind and token not in self.hub.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        name, may_write = self.hub.tokens.get(token, (None, False))
        if write and name is None:
            raise Refusal(401, "Authentication is needed")
        if write and not may_write:
            raise Refusal(403, "You don't have the rights to write: the token is read-only")
        return name

    def repo(self, name: str, write: bool = False) -> Repo:
        user = self.user(write)
        repo, owner = self.hub.repos.get(name), name.partition("/")[0]
        if repo is None or (repo.private and user != owner):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user != owner and "create_pr" not in self.query:
            raise Refusal(403, f"You don't have the rights to write to {name}")
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str:
        sha = repo.heads.get(revision, revision)
        if sha not in repo.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def whoami(self) -> Any:
        if self.user() is None:
            raise Refusal(401, "Authentication is needed")
        token = self.headers["Authorization"].partition(" ")[2]
        role = self.hub.roles.get(token) or ("write" if self.hub.tokens[token][1] else "read")
        return {"type": "user", "name": self.user(), "auth": {"type": "access_token", "accessToken": {"role": role}}}

    def validate(self) -> Any:
        front = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        try:
            data = yaml.safe_load(front[1]) if front else {}
            errors = [] if isinstance(data, dict) else ["metadata must be a mapping"]
            errors += [f'"{key}" must be text' for key in TEXTS if not isinstance(data.get(key, ""), str)]
            errors += [] if data.get("license", "mit") in LICENCES else [f'"license" must be one of {LICENCES}']
        except yaml.YAMLError as error:
            errors = [repr(error)]
        document = {"errors": [{"message": message} for message in errors], "warnings": []}
        return 400 if errors else 200, json.dumps(document).encode(), {}

    def create(self) -> Any:
        asked = json.loads(self.body)
        user = self.user(write=True)
        owner = asked["organization"] or user
        name = f"{owner}/{asked['name']}"
        if owner != user:
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {owner}")
        if name in self.hub.repos:
            raise Refusal(409, "You already created this model repo")
        self.hub.make_repo(name, private=asked.get("visibility") == "private" or asked.get("private", False))
        return {"url": f"{self.hub.url}/{name}", "name": name}

    def info(self, repo: str, revision: str = "main") -> Any:
        found = self.repo(repo)
        sha = self.commit_of(found, revision)
        siblings = []
        for name, file in found.commits[sha].items():
            lfs = file.lfs and {"size": file.lfs["size"], "sha256": file.lfs["oid"], "pointerSize": 134}
            metadata = {"size": len(file.content), "blobId": file.blob, "lfs": lfs}
            siblings.append({"rfilename": name} | (metadata if "blobs" in self.query else {}))
        return {"id": repo, "modelId": repo, "sha": sha, "private": found.private, "siblings": siblings}

    def tree(self, repo: str, revision: str) -> Any:
        found, folder = self.repo(repo), ""
        if revision not in found.heads | found.commits:
            revision, _, folder = revision.partition("/")
        files = found.commits[self.commit_of(found, revision)]
        listed = {name: file for name, file in files.items() if not folder or name.startswith(f"{folder}/")}
        if not listed:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        return [
            {"type": "file", "path": name, "size": len(file.content), "oid": file.blob}
            | ({"lfs": file.lfs} if file.large else {})
            for name, file in listed.items()
        ]

    def discussions(self, repo: str) -> Any:
        titles = self.repo(repo).pull_requests
        common = {"status": "open", "isPullRequest": True, "createdAt": "2026-01-01T00:00:00.000Z"}
        common |= {"repo": {"name": repo, "type": "model"}, "author": {"name": "someone"}}
        listed = [{"num": number, "title": title} | common for number, title in enumerate(titles, 1)]
        return {"discussions": listed, "start": 0, "count": len(listed)}

    def branch(self, repo: str, branch: str) -> Any:
        found = self.repo(repo, write=True)
        if branch in found.heads:
            raise Refusal(409, "Reference already exists")
        found.heads[branch] = self.commit_of(found, json.loads(self.body).get("startingPoint", "main"))
        return {}

    def preupload(self, repo: str, revision: str) -> Any:
        found = self.repo(repo, write=True)
        there = found.commits[self.commit_of(found, revision)]
        answers = []
        for asked in json.loads(self.body)["files"]:
            name, size = asked["path"], asked["size"]
            large = name.endswith(".safetensors") or size >= LARGE
            assert base64.b64decode(asked["sample"]) or not size
            old = there.get(name)
            oid = {"oid": old.sha256 if old.large else old.blob} if old else {}
            mode = "lfs" if large else "regular"
            answers.append({"path": name, "uploadMode": mode, "shouldIgnore": False} | oid)
        return {"files": answers}

    def batch(self, repo: str) -> Any:
        self.repo(repo)
        self.user(write=True)
        asked = json.loads(self.body)
        assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256"
        objects = []
        for entry in asked["objects"]:
            oid, size = entry["oid"], entry["size"]
            target = f"{self.hub.storage}/storage/{oid}"
            upload: dict[str, Any] = {"href": f"{target}?X-Signature=signed-{oid[:8]}"}
            if size >= PART and "multipart" in asked["transfers"]:
                parts = {str(n): f"{target}/{n}?X-Signature=signed-{n}" for n in range(1, -(-size // PART) + 1)}
                completion = f"{self.hub.url}/storage/{oid}"
                upload = {"href": completion, "header": {"chunk_size": str(PART)} | parts}
            verify = {"href": f"{self.hub.url}/verify/{oid}"}
            actions = {} if oid in self.hub.stored else {"actions": {"upload": upload, "verify": verify}}
            objects.append({"oid": oid, "size": size} | actions)
        return {"transfer": "basic", "objects": objects}

    def no_token(self) -> None:
        if "Authorization" in self.headers:
            raise Refusal(400, "a token of the Hub must not be sent to another host")

    def store(self, oid: str, part: str | None = None) -> Any:
        self.no_token()
        if "X-Signature" not in self.query:
            raise Refusal(403, "the address is not signed")
        if part:
            self.hub.parts[oid, int(part)] = self.body
            return 200, b"", {"ETag": hashlib.md5(self.body).hexdigest()}
        self.keep(oid, self.body)
        return 200, b"", {}

    def complete(self, oid: str) -> Any:
        parts = [part["partNumber"] for part in json.loads(self.body)["parts"]]
        self.keep(oid, b"".join(self.hub.parts[oid, number] for number in parts))
        return {}

    def keep(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "the content is not what its SHA-256 says")
        self.hub.stored[oid] = content

    def verify(self, oid: str) -> Any:
        if len(self.hub.stored.get(oid, b"")) != json.loads(self.body)["size"]:
            raise Refusal(400, "the upload is not complete")
        return {}

    def commit(self, repo: str, revision: str) -> Any:
        found = self.repo(repo, write=True)
        head = self.commit_of(found, revision)
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        if header["value"].get("parentCommit", head) != head:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(found.commits[head])
        for operation in operations:
            value = operation["value"]
            name = value["path"]
            match operation["key"]:
                case "file":
                    content = base64.b64decode(value["content"], validate=True)
                    if len(content) >= LARGE or name.endswith(".safetensors"):
                        raise Refusal(400, f"{name} must be uploaded as a large file")
                    files[name] = File(content, large=False)
                case "lfsFile":
                    if len(self.hub.stored.get(value["oid"], b"")) != value["size"]:
                        raise Refusal(400, f"{name}: the large file was not uploaded")
                    files[name] = File(self.hub.stored[value["oid"]], large=True)
                case "deletedFile":
                    if files.pop(name, None) is None:
                        raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                case other:
                    raise Refusal(400, f"unknown operation {other}")
        pull_request = None
        branch = revision
        if "create_pr" in self.query:
            found.pull_requests.append(header["value"]["summary"])
            branch = f"refs/pr/{len(found.pull_requests)}"
            pull_request = f"{self.hub.url}/{repo}/discussions/{len(found.pull_requests)}"
        sha = found.commit(branch, files, header["value"]["summary"])
        return {
            "commitOid": sha,
            "commitUrl": f"{self.hub.url}/{repo}/commit/{sha}",
            "pullRequestUrl": pull_request,
        }

    def resolve(self, repo: str, revision: str, name: str) -> Any:
        found = self.repo(repo)
        sha = self.commit_of(found, revision)
        file = found.commits[sha].get(name)
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.blob}"'}
        if file.large:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
            return 302, b"", headers | {"Location": f"{self.hub.storage}/cdn/{file.sha256}/{name}"}
        return self.content(name, file.content, headers)

    def cdn(self, oid: str, name: str) -> Any:
        self.no_token()
        return self.content(name, self.hub.stored[oid], {})

    def content(self, name: str, content: bytes, headers: dict[str, str]) -> Any:
        if name in self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(wanted[1])
            return 206, content[start:], headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return 200, content, {"Content-Type": "application/octet-stream"} | headers
