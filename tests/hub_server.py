"""A small Hugging Face Hub on this machine: an HTTP server with the parts of its API that we use.

It holds repositories in memory, each with commits and branches, and answers as the real one does:
resolved commits, entity tags, error codes in headers, uploads of small files within the commit and
of large ones by git LFS.  `requests` lists what was asked, as "GET /path".
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

# Files from this size on are stored by LFS.
LARGE = 20_000

TOKEN = "hf_secret"


@dataclasses.dataclass
class Repository:
    """Attributes:
    commits: commit -> file name -> content.
    branches: branch or tag -> commit.
    gated: files need a token.
    private: everything needs a token.
    """

    commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    branches: dict[str, str] = dataclasses.field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Adds files to a branch; returns the new commit."""
        content = dict(self.commits.get(self.branches.get(branch, ""), {})) | dict(files)
        seed = f"{len(self.commits)}{sorted(content)}"
        name = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[name] = content
        self.branches[branch] = name
        return name

    def resolve(self, revision: str) -> str | None:
        """Returns the commit of a branch, a tag or the beginning of a commit."""
        if revision in self.branches:
            return self.branches[revision]
        return next((name for name in self.commits if name.startswith(revision)), None)


class HubServer:
    """The server; `url` is for HF_ENDPOINT."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.failing: int | None = None  # a status that all requests are answered with
        self.refuse_uploads = False
        self.connections: list[socket.socket] = []
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, name: str, files: Mapping[str, bytes], branch: str = "main", **kind: bool) -> str:
        """Adds files to a repository, which is created; returns the commit."""
        repository = self.repositories.setdefault(name, Repository(**kind))
        return repository.commit(files, branch)

    def downloads(self) -> list[str]:
        """Returns the names of the files whose content was sent, in order of the alphabet."""
        sent = [r for r in self.requests if r.startswith("GET ") and "/resolve/" in r]
        return sorted(r.partition("/resolve/")[2].partition("/")[2] for r in sent)

    def close(self) -> None:
        """Stops the server and ends its connections; new ones are refused."""
        self._http.shutdown()
        self._http.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running() -> Iterator[HubServer]:
    """Runs a server."""
    server = HubServer()
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    server_state: HubServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server_state.connections.append(self.connection)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        self.server_state.requests.append(f"{method} {unquote(path)}")
        if self.server_state.failing:
            self._send(self.server_state.failing, b"out of order")
            return
        parts = path.strip("/").split("/")
        if method == "PUT" and self.server_state.refuse_uploads:
            self._send(403, b"no space left")
        elif method == "PUT" and parts[0] == "lfs":
            self.server_state.blobs[parts[1]] = body
            self._send(200)
        elif path == "/api/validate-yaml":
            self._validate_yaml(json.loads(body)["content"])
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/whoami-v2":
            if self._logged_in:
                self._json({"type": "user", "name": "me", "orgs": []})
            else:
                self._error(401, "Unauthorized", "Invalid user token.")
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._lfs(json.loads(body))
        elif parts[:2] == ["api", "models"]:
            self._api(method, "/".join(parts[2:4]), [unquote(p) for p in parts[4:]], body)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file(method, "/".join(parts[:2]), unquote(parts[3]), unquote("/".join(parts[4:])))
        else:
            self._send(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message or code}
        self._send(status, json.dumps({"error": message or code}).encode(), headers)

    @property
    def _logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository | None:
        """Returns a repository; answers like the Hub if it is missing or invisible."""
        found = self.server_state.repositories.get(name)
        if found is None or (found.private and not self._logged_in):
            self._error(404 if self._logged_in else 401, "RepoNotFound", "Repository not found")
            return None
        return found

    def _api(self, method: str, name: str, rest: list[str], body: bytes) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        action, revision = (rest[0], rest[1]) if rest else ("revision", "main")
        if method == "POST":
            if not self._logged_in:
                self._error(401, "RepoNotFound", "Repository not found")
            elif action == "branch":
                repository.branches.setdefault(revision, repository.branches["main"])
                self._json({})
            elif action == "preupload":
                self._json({"files": [self._mode(file) for file in json.loads(body)["files"]]})
            elif action == "commit":
                self._commit(name, repository, revision, body)
            else:
                self._send(404)
            return
        commit = repository.resolve(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif action == "revision":
            self._json(
                {"id": name, "sha": commit, "gated": "manual" if repository.gated else False}
            )
        elif action == "tree":
            files = repository.commits[commit]
            self._json([_tree_entry(path, data) for path, data in files.items()])
        else:
            self._send(404)

    def _file(self, method: str, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        if repository.gated and not self._logged_in:
            self._error(401, "GatedRepo", f"Access to model {name} is restricted.")
            return
        commit = repository.resolve(revision)
        if commit is None:
            self._error(404, "RevisionNotFound")
            return
        data = repository.commits[commit].get(path)
        if data is None:
            self._error(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(data)}"'}
        if len(data) >= LARGE and method == "HEAD":
            digest = hashlib.sha256(data).hexdigest()
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"'}
        headers["Content-Length"] = str(len(data))
        self._send(200, data, headers)

    def _validate_yaml(self, content: str) -> None:
        _, header, _ = content.split("---\n", 2)
        values = yaml.safe_load(header)
        errors = []
        if not isinstance(values, dict):
            errors.append("it is not a mapping")
        elif values.get("license") == "other" and not values.get("license_name"):
            errors.append('"license_name" is required')
        self._json(
            {"errors": [{"message": error} for error in errors], "warnings": []},
            400 if errors else 200,
        )

    def _create(self, request: dict[str, Any]) -> None:
        if not self._logged_in:
            self._error(401, "Unauthorized", "Invalid username or password.")
            return
        owner = request.get("organization") or "me"
        name = f"{owner}/{request['name']}"
        if owner == "stranger":
            self._error(403, "Forbidden", "You don't have the rights to create a model there")
            return
        if name in self.server_state.repositories:
            self._json({"url": f"{self.server_state.url}/{name}", "error": "exists"}, 409)
            return
        private = request.get("visibility") == "private" or bool(request.get("private"))
        self.server_state.add(
            name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private
        )
        self._json({"url": f"{self.server_state.url}/{name}", "name": name})

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["size"] >= LARGE else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _lfs(self, request: dict[str, Any]) -> None:
        objects = []
        for item in request["objects"]:
            upload = {"href": f"{self.server_state.url}/lfs/{item['oid']}"}
            objects.append({**item, "actions": {"upload": upload}})
        self._json({"objects": objects, "transfer": "basic"})

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes) -> None:
        files: dict[str, bytes] = {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                blob = self.server_state.blobs[value["oid"]]
                assert hashlib.sha256(blob).hexdigest() == value["oid"]
                files[value["path"]] = blob
        commit = repository.commit(files, branch)
        url = f"{self.server_state.url}/{name}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit, "success": True})


def _etag(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _tree_entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _etag(data)}
    if len(data) >= LARGE:
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry
