"""Fixtures shared by the tests: a tiny encoder built on the spot, and where the real data lies."""

from __future__ import annotations

import copy
import gc
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import lighter
import pytest
from words import WORDS

if TYPE_CHECKING:
    from hub_server import HubServer
    from sentence_transformers import SentenceTransformer

hypothesis.settings.register_profile(
    "fmicl",
    deadline=None,  # a slow example says that the machine is busy, and so do examples that are slow to be made
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="FMICL_FUZZ" not in os.environ,  # what refuses a change should be the change, not other examples
)
hypothesis.settings.load_profile("fmicl")


def _seed(what: str) -> None:
    """Have the random numbers of a test or a fixture not depend on what ran before it in this process."""
    import numpy as np
    import torch

    seed = zlib.crc32(what.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    _seed(fixturedef.argname)


def pytest_runtest_call(item: pytest.Item) -> None:
    _seed(item.nodeid)


def pytest_collection_finish() -> None:
    """The libraries' objects, a million of them, stay: a training that collects garbage need not look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def templates_compiled_once() -> Iterator[None]:
    """Each checkpoint has a model card, whose template takes longer to compile than a tiny model to train."""
    with pytest.MonkeyPatch.context() as patch:
        lighter.compile_templates_once(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        lighter.leave_syncs_out(patch)
        yield


@pytest.fixture
def avx512(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether PyTorch says that this CPU has AVX-512: the test's parameter, by default that it has."""
    import torch

    from fmicl_text.core.products import onednn_is_faster

    has = getattr(request, "param", True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": has})
    onednn_is_faster.cache_clear()
    yield has
    onednn_is_faster.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def no_tracebacks_of_seeds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        lighter.leave_tracebacks_of_seeds_out(patch)
        yield


@pytest.fixture(scope="module")
def blank_pictures() -> Iterator[None]:
    """For tests that train or report and do not look at the pictures, which take longer than a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        lighter.blank_pictures(patch)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, blank_pictures: None) -> None:
    """For a test among them that does look."""
    from fmicl_text.runs import plots

    monkeypatch.setattr(plots, "_figure", plots._figure.__wrapped__)


@pytest.fixture
def one_process() -> Iterator[None]:
    """For small cross-validations: a process for each core takes longer to start than these."""
    import joblib

    with joblib.parallel_config("sequential"):
        yield


def _saved_tiny_encoder(tmp_path_factory: pytest.TempPathFactory, positions: int) -> Path:
    """A randomly initialised BERT of two layers, 32 wide, over a vocabulary of a few dozen words."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=32)
    model = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")], device="cpu")
    saved = tmp_path_factory.mktemp("tiny-encoder")
    model.save_pretrained(str(saved), create_model_card=False)
    return saved


@pytest.fixture(scope="session")
def tiny_encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder that reads 64 tokens at most."""
    return _saved_tiny_encoder(tmp_path_factory, 64)


@pytest.fixture(scope="session")
def tiny_long_encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one that can read 384 tokens."""
    return _saved_tiny_encoder(tmp_path_factory, 384)


@pytest.fixture(scope="session")
def loaded_tiny_encoder(tiny_encoder_path: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_encoder_path), device="cpu")


@pytest.fixture
def tiny_encoder(loaded_tiny_encoder: SentenceTransformer) -> SentenceTransformer:
    """A fresh copy of the tiny encoder."""
    return copy.deepcopy(loaded_tiny_encoder)


@pytest.fixture
def loopback_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on the loopback for the client of this process, with an empty cache: ``tmp_path / "cache"``."""
    from hub_server import HubServer
    from huggingface_hub import constants

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its servers are not there
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", server.url)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # it remembers the Hub's address
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # before it asks again
        yield server


def _folder(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: it names the folder of real data or models this test needs")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data, from ``FMICL_DATA``."""
    return _folder("FMICL_DATA")


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """The folder of real models, from ``FMICL_MODELS``."""
    return _folder("FMICL_MODELS")
