"""Encoders from the Hub: which repository a name stands for, where it is kept, and what is said if it does not come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Fault, HubServer
from huggingface_hub import snapshot_download
from transformers import BertModel

from fmicl_text.encoders.section import LoraSection, ModelSection
from fmicl_text.encoders.text import load_encoder, locate
from fmicl_text.errors import InputError
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.training.provenance import model_fingerprint


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def tiny_files(tiny_encoder_path: Path) -> dict[str, bytes]:
    return files(tiny_encoder_path)


def commit(hub: HubServer, name: str) -> str:
    return hub.repos[name].heads["main"]


# Names


def test_a_name_without_an_owner_is_one_of_sentence_transformers(loopback_hub: HubServer, tiny_files):
    loopback_hub.make_repo("sentence-transformers/tiny", files=tiny_files)
    _, name, revision = scored_model("tiny")
    assert (name, revision) == ("tiny", commit(loopback_hub, "sentence-transformers/tiny"))
    assert locate("tiny") == "sentence-transformers/tiny"
    for section in (
        ModelSection(base="tiny"),
        ModelSection(base="tiny", pooling="cls"),
        ModelSection(base="static:tiny"),
    ):
        load_encoder(section)
        assert model_fingerprint(section) == {"revision": revision}


def test_the_first_models_of_transformers_have_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert locate("bert-base-uncased") == "bert-base-uncased" and locate("T5-small") == "T5-small"
    (tmp_path / "tiny").mkdir()
    assert locate("tiny") == "tiny", "a folder here comes first"


# Repositories of which not all files are loaded


def test_shards_are_loaded_where_other_files_are_not(loopback_hub: HubServer, tiny_files, tiny_encoder_path, tmp_path):
    BertModel.from_pretrained(tiny_encoder_path, add_pooling_layer=False).save_pretrained(
        tmp_path / "shards", max_shard_size="10KB"
    )
    del tiny_files["model.safetensors"]
    sharded = tiny_files | files(tmp_path / "shards") | {"onnx/model.onnx": b"not read"}
    assert sum(name.endswith(".safetensors") for name in sharded) > 1
    loopback_hub.make_repo("me/sharded", files=sharded)
    scored = scored_model("me/sharded")
    assert scored.revision == commit(loopback_hub, "me/sharded")
    assert model_fingerprint(ModelSection(base="me/sharded")) == {"revision": scored.revision}


def test_a_part_of_a_repository_that_was_downloaded_beforehand_is_enough(
    loopback_hub: HubServer, tiny_files, monkeypatch: pytest.MonkeyPatch
):

    loopback_hub.make_repo("me/tiny", files=tiny_files | {"onnx/model.onnx": b"not read"})
    snapshot_download("me/tiny", ignore_patterns=["onnx/*"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert scored_model("me/tiny").revision == commit(loopback_hub, "me/tiny")


# Where they are kept


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("named", [{"base": "me/tiny", "pooling": "cls"}, {"base": "static:me/tiny"}])
def test_all_loaders_keep_models_in_the_folder_of_sentence_transformers(
    loopback_hub: HubServer, tiny_files, home: Path, named: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    section = ModelSection(**named)
    loopback_hub.make_repo("me/tiny", files=tiny_files)
    load_encoder(section)
    assert model_fingerprint(section) == {"revision": commit(loopback_hub, "me/tiny")}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_encoder(section)


def test_the_base_of_an_adapter_is_kept_there_too(loopback_hub: HubServer, tiny_files, home: Path, tmp_path: Path):
    pytest.importorskip("peft", reason="peft is not installed")
    loopback_hub.make_repo("me/tiny", files=tiny_files)
    adapted = load_encoder(ModelSection(base="me/tiny", lora=LoraSection()))
    adapted.save_pretrained(str(tmp_path / "adapter"), create_model_card=False)
    load_encoder(ModelSection(base=str(tmp_path / "adapter")))
    assert list(home.rglob("model.safetensors")) and not list((tmp_path / "cache").rglob("model.safetensors"))


# What is said if they do not come


WAYS = [{"base": "me/tiny"}, {"base": "me/tiny", "pooling": "cls"}, {"base": "static:me/tiny"}]
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


def problem(named: dict[str, str]) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(ModelSection(**named))
    (said,) = caught.value.problems
    assert said.startswith("model.base: no ") and "\n" not in said
    return said


@pytest.mark.parametrize("named", WAYS)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault("resolve", 403, 99, {"X-Error-Code": "GatedRepo"}),
            "me/tiny is gated: accept its terms at {}/me/tiny, then " + LOG_IN,
        ),
        (
            Fault("resolve", 401, 99, {"X-Error-Code": "GatedRepo"}),
            "me/tiny is gated: accept its terms at {}/me/tiny, then " + LOG_IN,
        ),
        (
            Fault("me/tiny", 401, 99, {}, "Invalid credentials in Authorization header"),
            "the Hub does not accept the token: " + LOG_IN,
        ),
        (Fault("me/tiny", 403, 99), "the token may not read me/tiny: " + LOG_IN),
        (
            Fault("me/tiny", 403, 99, {}, "Access to this resource is disabled."),
            "the Hub has disabled access to me/tiny",
        ),
        (Fault("me/tiny", 429, 99), "the Hub takes no more requests for now"),
        (Fault("me/tiny", 503, 99), "the Hub cannot be reached now, it answers with status 503"),
        (Fault("me/tiny", None, 99), "the Hub cannot be reached now: "),
    ],
    ids=["gated", "gated-anonymous", "token", "forbidden", "disabled", "limit", "down", "reset"],
)
def test_a_model_that_the_hub_does_not_give(loopback_hub: HubServer, tiny_files, fault: Fault, said: str, named):
    loopback_hub.make_repo("me/tiny", files=tiny_files)
    loopback_hub.faults.append(replace(fault))
    assert said.format(loopback_hub.url) in problem(named)


def test_weights_that_the_storage_of_the_hub_refuses(loopback_hub: HubServer, tiny_files):
    loopback_hub.make_repo("me/tiny", files=tiny_files)
    loopback_hub.faults.append(Fault("/cdn/", 403, 99))
    assert "the storage for large files, localhost, refused (status 403): a proxy may" in problem({"base": "me/tiny"})


@pytest.mark.parametrize("named", WAYS)
def test_a_model_that_the_hub_does_not_have(loopback_hub: HubServer, named):
    assert f"the Hub has no model me/tiny, or it is private: if you may read it, {LOG_IN}" in problem(named)
    loopback_hub.make_repo("me/tiny", private=True)
    assert f"the Hub has no model me/tiny, or it is private: if you may read it, {LOG_IN}" in problem(named)


@pytest.mark.parametrize("named", WAYS)
def test_a_revision_that_the_hub_does_not_have(loopback_hub: HubServer, tiny_files, named):
    loopback_hub.make_repo("me/tiny", files=tiny_files)
    assert 'me/tiny has no revision "v2" on the Hub' in problem(named | {"revision": "v2"})


@pytest.mark.parametrize("named", WAYS)
def test_a_model_that_is_not_in_the_cache_and_must_not_be_asked_for(named, loopback_hub: HubServer, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, and me/tiny is not, or not as a whole, in the cache" in problem(named)
