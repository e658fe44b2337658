"""What identifies the state of a model or a data set: the commit on the Hub, or a digest of local files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from fmicl_text.files import sha256
from fmicl_text.hub_errors import explained


def local_revision(files: Iterable[Path], about: str = "") -> str:
    """Return ``local-`` and 16 hexadecimal digits of the SHA-256 of the contents of ``files``, in this order.

    Args:
        files: The files.
        about: What else decides how they are read.
    """
    digest = hashlib.sha256(about.encode())
    for path in files:
        digest.update(bytes.fromhex(sha256(path)))
    return f"local-{digest.hexdigest()[:16]}"


def folder_revision(folder: Path, ignored: Iterable[str] = ()) -> str:
    """Return the :func:`local_revision` of all files of a folder, by name and contents.

    Args:
        folder: The folder; hidden files and folders, as downloaders leave, do not count.
        ignored: Suffixes of files that do not count either.
    """
    counted = {name: path for name, path in visible_files(folder).items() if Path(name).suffix not in ignored}
    return local_revision(counted.values(), repr(list(counted)))


def visible_files(folder: Path) -> dict[str, Path]:
    """Return the files under a folder by their names relative to it, without hidden files and folders."""
    named = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path for name, path in named.items() if not any(part.startswith(".") for part in name.parts)
    }


def models_cache() -> str | None:
    """Return the folder in which models of the Hub are kept; ``None`` for that of the Hub's client.

    ``SentenceTransformer`` looks there of itself; transformers and the Hub's client must be told.
    """
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def cached_snapshot(repo: str, revision: str | None = None) -> Path:
    """Return the cache folder of a model that was loaded from the Hub; its name is the commit.

    It need not have all files of the repository: of some, such as those in other formats, loading makes no use.

    Raises:
        huggingface_hub.errors.LocalEntryNotFoundError: If the model has not been loaded.
    """
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        repo,
        revision=revision,
        cache_dir=models_cache(),
        local_files_only=True,
        allow_patterns=[],  # otherwise each file must be there that the client knows to be in the repository
    )
    return Path(folder)


def model_revision(place: str, revision: str | None = None) -> str:
    """Return what identifies the state of a loaded model: the Hub's commit, or a digest of its folder.

    The digest is of the files that decide an embedding (weights, tokeniser, prompts, maximum length), not of the card.
    No request is sent to the Hub.

    Args:
        place: A folder or a Hub id, from :func:`fmicl_text.encoders.text.locate`.
        revision: Branch, tag or commit on the Hub.
    """
    folder = Path(place)
    return folder_revision(folder, ignored={".md"}) if folder.is_dir() else cached_snapshot(place, revision).name


def dataset_commit(source: str, repo: str, revision: str | None) -> str:
    """Ask the Hub for the commit that a revision of a data set stands for.

    Args:
        source: Name of the data in messages.
        repo: The data set's id.
        revision: Branch, tag or commit; default the main branch.

    Raises:
        InputError: If the Hub does not have it, or cannot be reached.
    """
    from huggingface_hub import HfApi

    refusal = f"{source}: no such file, and no such data set can be loaded from the Hub"
    with explained(refusal, repo, "data set", revision):
        return str(HfApi().dataset_info(repo, revision=revision).sha)
