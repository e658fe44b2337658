"""``fmicl env``: what a report of a problem says of the machine."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import pytest

from fmicl_text.cli import main
from fmicl_text.cli.env import cache_folders


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of 1,000, 20 and no bytes below a home folder; the first has a link to its own file, as the Hub's has."""
    from huggingface_hub import constants

    home = tmp_path / "home"
    for folder, size in (("hub/blobs", 1000), ("rows", 20)):
        (home / folder).mkdir(parents=True)
        (home / folder / "a").write_bytes(b"x" * size)
    (home / "hub" / "a").symlink_to(home / "hub" / "blobs" / "a")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "rows"))
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "elsewhere"))
    return tmp_path


def test_json_has_versions_device_formats_and_caches(caches: Path, capsys):
    assert main(["env", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["versions"]["python"] == platform.python_version()
    assert said["versions"]["torch"] == metadata.version("torch")
    assert {"mteb", "peft", "optuna", "kornia", "transformers", "fmicl-text"} <= said["versions"].keys()
    assert said["device"]["device"] and "float32" in said["formats"]
    assert said["caches"] == {
        "models": {"path": "~/hub", "bytes": 1000},
        "rows": {"path": "~/rows", "bytes": 20},
        "mteb": {"path": f"{caches}/elsewhere", "bytes": 0},
    }


def test_nothing_secret_is_said(caches: Path, capsys, monkeypatch):
    token = "hf_" + "secret" * 6
    for name in ("HF_TOKEN", "WANDB_API_KEY", "FMICL_PASSWORD"):
        monkeypatch.setenv(name, token)
    (caches / "home" / "hub" / "token").write_text(token)
    assert main(["env"]) == 0
    said = capsys.readouterr().out
    assert token not in said and str(caches / "home") not in said
    assert "  torch " in said and "~/rows, 0.0 MB" in said


def test_a_library_that_is_not_there_is_said_to_be_missing(caches: Path, capsys, monkeypatch):
    monkeypatch.setattr("fmicl_text.cli.env._EXTRAS", ("no-such-library",))
    assert main(["env"]) == 0
    assert any(line.split() == ["no-such-library", "not", "installed"] for line in capsys.readouterr().out.splitlines())


def test_models_are_where_sentence_transformers_was_told_to_keep_them(monkeypatch):
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", "~/sentences")
    assert cache_folders()["models"] == Path.home() / "sentences"


def test_caches_are_where_the_libraries_have_them():
    import datasets
    import mteb
    from huggingface_hub import constants

    assert cache_folders() == {
        "models": Path(constants.HF_HUB_CACHE),
        "rows": Path(datasets.config.HF_DATASETS_CACHE),
        "mteb": Path(mteb.ResultCache().cache_path),
    }
