"""Models on the Hugging Face Hub: `hf://OWNER/NAME[@REVISION][/FOLDER]`.

Such an address stands for weights, an adapter, an autoencoder or a tokenizer, and for nothing else.
Files are downloaded by `huggingface_hub` into its cache, which is never cleaned here; its
environment variables apply (`HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, ...).  This is
the only module that imports it, and only when there is an address: nothing else downloads anything.
"""

import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

# A revision ends at the next slash, except these of pull requests and converted files.
_ADDRESS = re.compile(
    r"hf://(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)"
    r"(@(?P<revision>refs/(pr|convert)/[^/]+|[^/]+))?(/+(?P<folder>.*))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")

# Chooses the files to download from the names of all files in a folder.
Choose = Callable[[Sequence[str]], Collection[str]]


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """Attributes:
    repository: `OWNER/NAME`.
    revision: a branch, a tag or a commit; empty for the default branch.
    folder: in the repository; empty for its root.
    """

    repository: str
    revision: str = ""
    folder: str = ""

    @classmethod
    def parse(cls, text: Path | str) -> "HubAddress":
        """Reads an address; `pathlib`, which joins slashes, may have shortened it to `hf:/`.

        Raises:
          UserError: it is not of the form above.
        """
        text = re.sub("^hf:/+", SCHEME, str(text))
        match = _ADDRESS.fullmatch(text.rstrip("/"))
        folder = (match["folder"] or "").strip("/") if match else ""
        if match is None or ".." in folder.split("/") or match["owner"] in ("datasets", "spaces"):
            raise UserError(
                f"{text} is not the address of a model: write hf://OWNER/NAME, "
                "hf://OWNER/NAME@REVISION or hf://OWNER/NAME@REVISION/FOLDER"
            )
        return cls(f"{match['owner']}/{match['name']}", match["revision"] or "", folder)

    @property
    def inside(self) -> str:
        """What the names of the folder's files start with in the repository."""
        return f"{self.folder}/" if self.folder else ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        folder = f"/{self.folder}" if self.folder else ""
        return f"{SCHEME}{self.repository}{revision}{folder}"


def is_address(path: object) -> bool:
    """Returns whether a path or a text is an address on the Hub."""
    return str(path).startswith("hf:/")


def pinned(address: Path | str) -> str:
    """Returns an address with the commit that its revision means now.

    Without a network this is the commit of the last download.  A process asks once per revision.

    Raises:
      UserError: there is no such repository or revision, or the Hub does not answer.
    """
    parsed = HubAddress.parse(address)
    return str(dataclasses.replace(parsed, revision=_commit(parsed)))


def download(address: Path | str, choose: Choose, what: str) -> Path:
    """Downloads files of a folder on the Hub, unless they are in the cache.

    Args:
      address: `hf://...`.
      choose: chooses the files by their names relative to the folder.
      what: they are, for messages: "weights".

    Returns:
      The local folder; `recorded` returns its address.

    Raises:
      UserError: there is no such repository, revision or file, access is denied, or the Hub does
        not answer.
    """
    parsed = HubAddress.parse(address)
    held = _files(parsed)
    try:
        chosen = choose(held)
    except UserError as error:
        raise UserError(f"{parsed} {error}") from None
    if not chosen:
        shown = ", ".join(sorted(held)[:5])
        more = f", and {len(held) - 5} more" if len(held) > 5 else ""
        raise UserError(f"{parsed} holds no {what}; its files are {shown}{more}")
    return _fetch(parsed, chosen)


def download_file(address: Path | str, name: str) -> Path | None:
    """Downloads one file of a folder on the Hub; see `download`.

    Returns:
      The local file; None if there is no such file.
    """
    parsed = HubAddress.parse(address)
    return _fetch(parsed, [name]) / name if name in _files(parsed) else None


def recorded(path: Path | str) -> str:
    """Returns how a path is recorded, so that it can be found again elsewhere.

    Args:
      path: a folder that `download` returned or something in it, an address, or any other path.

    Returns:
      The address with its commit, or the absolute path.
    """
    if is_address(path):
        return pinned(path)
    path = as_path(path).absolute()
    for root, address in _downloaded.items():
        if path.is_relative_to(root):
            inside = path.relative_to(root).as_posix()
            return address if inside == "." else f"{address}/{inside}"
    return str(path)


@dataclasses.dataclass(frozen=True)
class Upload:
    """What `push` uploads.

    Attributes:
      folder: a local folder.
      files: in it, relative.
    """

    folder: Path
    files: tuple[str, ...]


def push(
    upload: Upload,
    address: Path | str,
    *,
    belongs: Callable[[str], bool],
    private: bool = False,
) -> str:
    """Uploads files in one commit: all or none.  The repository is created if it does not exist.

    Args:
      upload: the files.
      address: the repository, and optionally the branch, which is created too.
      belongs: whether a file, by its name, is part of a model: such a file of the repository may
        not remain beside those that are uploaded.
      private: a new repository is private; an existing one is left as it is.

    Returns:
      The address with the new commit.

    Raises:
      UserError: access is denied, the Hub does not answer, or the repository holds files of another
        model, which would be read beside or instead of these.
    """
    parsed = push_address(address)
    from huggingface_hub import CommitOperationAdd

    api = _api()
    branch = parsed.revision or None
    with _explained(parsed, pushing=True):
        api.create_repo(parsed.repository, private=private or None, exist_ok=True)
        if branch:
            api.create_branch(parsed.repository, branch=branch, exist_ok=True)
        held = api.list_repo_files(parsed.repository, revision=branch)
    stale = sorted(name for name in {*held} - {*upload.files} if belongs(name))
    if stale:
        more = f" and {len(stale) - 1} more files" if len(stale) > 1 else ""
        raise UserError(
            f"{parsed} holds {stale[0]}{more} of another model, which would be read beside or "
            "instead of what is uploaded: delete them there, or push to another repository"
        )
    operations = [CommitOperationAdd(name, str(upload.folder / name)) for name in upload.files]
    with _explained(parsed, pushing=True), _progress_on_a_terminal():
        done = api.create_commit(
            parsed.repository, operations, commit_message="Upload by ditfuse_jax", revision=branch
        )
    return str(HubAddress(parsed.repository, str(done.oid)))


def check_login(address: Path | str) -> None:
    """Checks that there is a token that the Hub accepts, before the work that ends with a push.

    Raises:
      UserError: there is none, or the Hub does not answer.
    """
    with _explained(push_address(address), pushing=True):
        _api().whoami()


def push_address(address: Path | str) -> HubAddress:
    """Reads the address of a repository that files are uploaded to.

    Raises:
      UserError: it is none, or names a folder or a commit.
    """
    parsed = HubAddress.parse(address)
    if parsed.folder or _COMMIT.fullmatch(parsed.revision):
        raise UserError(f"{address}: give the repository to push to, hf://OWNER/NAME[@BRANCH]")
    return parsed


# Local folders that this process downloaded -> their addresses with commits.
_downloaded: dict[Path, str] = {}


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(library_name="ditfuse_jax")


def _commit(address: HubAddress) -> str:
    """Returns the commit that a revision means, the same one throughout a process."""
    return _resolve(dataclasses.replace(address, folder=""))


@functools.cache
def _resolve(address: HubAddress) -> str:
    if _COMMIT.fullmatch(address.revision):
        return address.revision
    with _explained(address):
        found = _api().resolve_revision(address.repository, revision=address.revision or None)
    return found.resolved


@functools.cache
def _files(address: HubAddress) -> tuple[str, ...]:
    """Returns the names of all files in a folder, relative to it.

    Raises:
      UserError: there is no such folder, or the Hub cannot be asked.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    commit = _commit(address)
    with _explained(address):
        try:  # the cache holds the list of a commit that was downloaded before
            tree = get_cached_repo_tree(address.repository, revision=commit)
            names = [file.path for file in tree]
        except CachedRepoTreeNotFoundError:
            names = _api().list_repo_files(address.repository, revision=commit)
    held = [name.removeprefix(address.inside) for name in names if name.startswith(address.inside)]
    if not held:
        folders = sorted({name.split("/")[0] for name in names if "/" in name})
        raise UserError(
            f"{address} does not exist: the folders there are {', '.join(folders) or 'none'}"
        )
    return tuple(held)


def _fetch(address: HubAddress, names: Collection[str]) -> Path:
    """Downloads files of a folder that are not in the cache yet; returns the local folder."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    commit = _commit(address)
    paths = [address.inside + name for name in sorted(names)]
    with _explained(address):
        found = [try_to_load_from_cache(address.repository, p, revision=commit) for p in paths]
        if all(isinstance(path, str) for path in found):
            root = Path(str(found[0]).removesuffix(paths[0]))
        else:
            # The names are patterns to the library.
            patterns = [re.sub(r"([\[*?])", r"[\1]", path) for path in paths]
            with _progress_on_a_terminal():
                root = Path(
                    snapshot_download(
                        address.repository,
                        revision=commit,
                        allow_patterns=patterns,
                        library_name="ditfuse_jax",
                    )
                )
    _downloaded[root] = str(HubAddress(address.repository, commit))
    return root / address.folder


def _progress_on_a_terminal() -> contextlib.AbstractContextManager[Any]:
    from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS
    from huggingface_hub.utils import disable_progress_bars

    if sys.stderr.isatty() or HF_HUB_DISABLE_PROGRESS_BARS is not None:
        return contextlib.nullcontext()
    return disable_progress_bars()


@contextlib.contextmanager
def _explained(address: HubAddress, *, pushing: bool = False) -> Iterator[None]:
    """Turns errors of the library into one line.

    Raises:
      UserError: the library failed for a reason outside this program.
    """
    try:
        yield
    except Exception as error:  # the HTTP library below has its own classes
        explanation = _explain(error, address, pushing)
        if explanation is None:
            raise
        raise UserError(f"{address}: {explanation}") from error


def _explain(error: Exception, address: HubAddress, pushing: bool) -> str | None:
    """Returns what is wrong and what to do; None for an error that is a bug."""
    from huggingface_hub import constants, errors

    chain = _chain(error)
    reason = " ".join(str(error).split())
    if any(isinstance(e, errors.OfflineModeIsEnabled) for e in chain):
        return "not in the cache, and HF_HUB_OFFLINE forbids downloads: unset it once"
    # What the Hub has answered explains more than what the library made of it.
    match next((e for e in chain if isinstance(e, errors.HfHubHTTPError)), error):
        case errors.GatedRepoError():
            page = f"{constants.ENDPOINT}/{address.repository}"
            return f"the repository is gated: ask for access at {page}, then {_LOG_IN}"
        case errors.RepositoryNotFoundError() if pushing:
            return f"no right to write there: {_LOG_IN}"
        case errors.RepositoryNotFoundError():
            return f"no such repository, or it is private: check the name, or {_LOG_IN}"
        case errors.RevisionNotFoundError():
            return f"the repository has no branch, tag or commit {address.revision!r}"
        case errors.LocalTokenNotFoundError():
            return f"not logged in: {_LOG_IN}"
        case errors.HFValidationError():
            return reason
        case errors.RemoteEntryNotFoundError():
            return f"a file is missing there ({reason})"
        case errors.HfHubHTTPError() as answer:
            status = answer.response.status_code
            if status in (401, 403):
                return (
                    f"the Hub denies access ({status}): {_LOG_IN}, with a token that has the right"
                )
            said = answer.server_message or reason
            return f"the Hub answers with an error ({status}: {said}): try again later"
        case ValueError() if pushing and "README.md" in reason:
            return reason
    if any(type(e).__module__.startswith("httpx") for e in chain):
        cause = " ".join(str(chain[-1]).split())
        return (
            f"the Hub at {constants.ENDPOINT} cannot be reached ({cause}), and the cache does not "
            "hold it: check the network, HF_ENDPOINT and proxies"
        )
    if isinstance(error, OSError):
        return f"cannot be downloaded to {constants.HF_HUB_CACHE} ({error.strerror or reason})"
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """Returns an error and what it was raised from, down to the first one."""
    chain: list[BaseException] = []
    current: Any = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
