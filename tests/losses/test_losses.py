"""The losses as sentence-transformers modules: what they read from a batch, and what they make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from loss_cases import MeanOfTokens, total
from reference import formulas
from reference.formulas import TABLE
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor

from fmicl_text import FMICLLoss, InfoNCELoss, core
from fmicl_text.core import NEGATIVES, CosineKernel, ExponentialKernel, GaussianKernel, Region
from fmicl_text.losses import LOSSES, NonFiniteEmbeddings

SIGMA, ALPHA = 0.6, 3.0
# Row 0 and row 2 have one anchor, row 1's positive is row 3's anchor; widths of the columns differ.
ANCHORS = ["a dog runs", "the woman plays a big red guitar in the park", "a dog runs", "water is blue"]
POSITIVES = ["the dog is fast", "water is blue", "dog", "the river is blue and slow"]
NEGATIVE_COLUMNS = [["a cat", "a dog runs", "the man sings", "dog"], ["food", "street", "the city", "a ball"]]
DISTINCT = ["a dog runs", "the woman plays a guitar", "water is blue", "the old man sings"]


def tokenised(model: SentenceTransformer, *columns: list[str]) -> list[dict[str, Tensor]]:
    return [model.preprocess(column) for column in columns]


def embedded(model: SentenceTransformer, *columns: list[str]) -> list[Tensor]:
    """Embeddings of each column, as tensors that autograd accepts."""
    return [torch.tensor(model.encode(column)) for column in columns]


def encoded(model: SentenceTransformer, *columns: list[str]) -> list[np.ndarray]:
    """Embeddings of a few columns in float64; negative columns become one array."""
    x, y, *extra = (model.encode(column).astype(np.float64) for column in columns)
    return [x, y, *([np.concatenate(extra)] if extra else [])]


def identities(columns: list[list[str]]) -> dict[str, list]:
    """Text identities for the reference: the texts themselves."""
    anchors, positives, *negatives = columns
    return {
        "texts": [{a, b} for a, b in zip(anchors, positives, strict=True)],
        "extra_texts": [text for column in negatives for text in column],
    }


@contextmanager
def watched(model: SentenceTransformer):
    """Yield the list of (token ids, embeddings) of the encoder's forward passes."""
    passes: list[tuple[Tensor, Tensor]] = []
    hook = model.register_forward_hook(
        lambda module, inputs, output: passes.append((inputs[0]["input_ids"], output["sentence_embedding"]))
    )
    yield passes
    hook.remove()


@pytest.mark.parametrize("columns", [2, 3, 4], ids=["pairs", "triplets", "quadruplets"])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_fmicl_of_sentences(tiny_encoder, negatives: str, columns: int):
    """Duplicates are found through the tokens, across rows and columns padded to different widths."""
    texts = [ANCHORS, POSITIVES, *NEGATIVE_COLUMNS][:columns]
    loss = FMICLLoss(tiny_encoder, "kl", sigma=SIGMA, alpha=ALPHA, negatives=negatives).eval()
    features = tokenised(tiny_encoder, *texts)
    assert len({column["input_ids"].shape[1] for column in features}) > 1
    terms = loss(features, None)
    expected = formulas.fmicl(
        *encoded(tiny_encoder, *texts),
        row=TABLE["kl"],
        ratio=formulas.gaussian(SIGMA),
        alpha=ALPHA,
        negatives=negatives,
        **identities(texts),
    )
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("columns", [2, 3, 4], ids=["pairs", "triplets", "quadruplets"])
def test_infonce_of_sentences(tiny_encoder, columns: int):
    texts = [ANCHORS, POSITIVES, *NEGATIVE_COLUMNS][:columns]
    terms = InfoNCELoss(tiny_encoder, temperature=0.2).eval()(tokenised(tiny_encoder, *texts))
    ratio = formulas.exponential_of_cosine(0.2)
    expected = formulas.infonce(*encoded(tiny_encoder, *texts), ratio=ratio, **identities(texts))
    assert list(terms) == ["positive", "negative"]
    assert total(terms).item() == pytest.approx(expected, rel=1e-4)


def offered(x: Tensor, extra: Tensor) -> Tensor:
    """Row i was offered the i-th text of each negative column."""
    return torch.eye(len(x), dtype=torch.bool).repeat(1, len(extra) // len(x))


EXPECTED: dict[str, list[tuple[dict[str, Any], Callable[..., dict[str, Tensor]]]]] = {
    "fmicl": [
        (
            {},
            lambda *b, **k: core.fmicl(
                *b, kernel=GaussianKernel(0.25), alpha=core.Alpha(balance_cosine=0.1), negatives="cross", **k
            ),
        ),
        (
            {"divergence": "tsallis", "order": 1.5, "sigma": 0.7, "mu": 1.5, "alpha": 2, "negatives": "both"},
            lambda *b, **k: core.fmicl(
                *b, divergence=core.tsallis(1.5), kernel=GaussianKernel(0.7, 1.5), alpha=2.0, negatives="both", **k
            ),
        ),
        (
            {"kernel": "cosine", "temperature": 0.5, "shift": "dv", "divergence": "js"},
            lambda *b, **k: core.fmicl_dv(*b, divergence=core.JS, kernel=CosineKernel(0.5), negatives="cross", **k),
        ),
    ],
    "infonce": [
        ({}, lambda *b, **k: core.infonce(*b, kernel=CosineKernel(0.05), **k)),
        (
            {"kernel": "gaussian", "sigma": 0.6, "symmetric": True},
            lambda *b, **k: core.infonce(*b, kernel=GaussianKernel(0.6), symmetric=True, **k),
        ),
    ],
    "ntxent": [
        ({}, lambda *b, **k: core.ntxent(*b, kernel=CosineKernel(0.5), **k)),
        ({"temperature": 0.2}, lambda *b, **k: core.ntxent(*b, kernel=CosineKernel(0.2), **k)),
    ],
    "alignment-uniformity": [
        (
            {},
            lambda *b, **k: core.alignment_uniformity(*b, power=2.0, t=2.0, align_weight=1.0, uniform_weight=1.0, **k),
        ),
        (
            {"power": 1.0, "t": 3.0, "align_weight": 2.0, "uniform_weight": 0.5},
            lambda *b, **k: core.alignment_uniformity(*b, power=1.0, t=3.0, align_weight=2.0, uniform_weight=0.5, **k),
        ),
    ],
    "spectral": [
        ({}, lambda *b, **k: core.spectral(*b, mu=1.0, **k)),
        ({"mu": 10.0}, lambda *b, **k: core.spectral(*b, mu=10.0, **k)),
    ],
    "kernel-infonce": [
        ({}, lambda *b, **k: core.kernel_infonce(*b, kernel=ExponentialKernel(1.0, 0.1), **k)),
        (
            {"kernel": "exponential", "temperature": 0.3},
            lambda *b, **k: core.kernel_infonce(*b, kernel=ExponentialKernel(0.5, 0.3), **k),
        ),
        (
            {"mix": "sum", "second_temperature": 0.2},
            lambda *b, **k: core.kernel_infonce(
                *b, kernel=core.SumKernel(ExponentialKernel(1.0, 0.1), ExponentialKernel(2.0, 0.2)), **k
            ),
        ),
        (
            {"kernel": "gaussian", "mix": "losses", "second_temperature": 0.4, "weight": 0.2},
            lambda *b, **k: core.kernel_infonce_mixed(
                *b, first=ExponentialKernel(2.0, 0.1), second=ExponentialKernel(2.0, 0.4), weight=0.2, **k
            ),
        ),
        (
            {"kernel": "exponential", "gamma": 0.7, "mix": "concatenation"},
            lambda *b, **k: core.kernel_infonce_concatenated(
                *b, first=ExponentialKernel(0.7, 0.1), second=ExponentialKernel(2.0, 0.1), **k
            ),
        ),
    ],
    "dhel": [
        ({}, lambda *b, **k: core.dhel(*b, kernel=CosineKernel(0.3), both_views=True, **k)),
        (
            {"temperature": 0.2, "both_views": False},
            lambda *b, **k: core.dhel(*b, kernel=CosineKernel(0.2), both_views=False, **k),
        ),
    ],
    "kcl": [
        ({}, lambda *b, **k: core.kcl(*b, kernel=ExponentialKernel(2.0, 0.5), gamma=16.0, **k)),
        ({"gamma": 4.0, "t": 3.0}, lambda *b, **k: core.kcl(*b, kernel=ExponentialKernel(2.0, 1 / 3), gamma=4.0, **k)),
        ({"kernel": "imq", "c": 0.5}, lambda *b, **k: core.kcl(*b, kernel=core.InverseMultiquadricKernel(0.5), **k)),
        ({"kernel": "riesz", "s": 0.7}, lambda *b, **k: core.kcl(*b, kernel=core.RieszKernel(0.7), **k)),
        (  # K = -log(t d^2 + 1) for the positives, half of it for the negatives
            {"kernel": "log", "t": 3.0, "gamma": 4.0},
            lambda *b, **k: core.kcl(
                *b, kernel=core.InverseMultiquadricKernel(3**-0.5, 1.0), gamma=2.0, score=lambda r: r, **k
            ),
        ),
    ],
    "dcl": [
        ({}, lambda *b, **k: core.dcl(*b, kernel=CosineKernel(0.1), weight_sigma=None, symmetric=True, **k)),
        (
            {"temperature": 0.2, "weight_sigma": 0.5, "symmetric": False},
            lambda *b, **k: core.dcl(*b, kernel=CosineKernel(0.2), weight_sigma=0.5, symmetric=False, **k),
        ),
    ],
    "focal-infonce": [
        ({}, lambda *b, **k: core.focal_infonce(*b, temperature=0.05, margin=0.3, **k)),
        (
            {"temperature": 0.2, "margin": 0.1},
            lambda *b, **k: core.focal_infonce(*b, temperature=0.2, margin=0.1, **k),
        ),
    ],
    "hcl": [
        ({}, lambda *b, **k: core.hcl(*b, kernel=CosineKernel(0.5), tau_plus=0.1, beta=1.0, **k)),
        (
            {"temperature": 0.2, "tau_plus": 0.0, "beta": 0.5},
            lambda *b, **k: core.hcl(*b, kernel=CosineKernel(0.2), tau_plus=0.0, beta=0.5, **k),
        ),
    ],
    "asymmetric-infonce": [
        ({}, lambda *b, **k: core.asymmetric_infonce(*b, kernel=CosineKernel(0.5), degree=0.2, **k)),
        (
            {"temperature": 0.2, "degree": 0.7},
            lambda *b, **k: core.asymmetric_infonce(*b, kernel=CosineKernel(0.2), degree=0.7, **k),
        ),
    ],
    "contextual-infonce": [
        ({}, lambda *b, **k: core.contextual_infonce(*b, kernel=CosineKernel(0.05), offered=offered(b[0], b[2]), **k)),
        (
            {"temperature": 0.2},
            lambda *b, **k: core.contextual_infonce(*b, kernel=CosineKernel(0.2), offered=offered(b[0], b[2]), **k),
        ),
    ],
}
"""Name of a loss -> arguments, first none: the published defaults, and the objective they are to give."""
EVERY = [(name, arguments, expected) for name, variants in EXPECTED.items() for arguments, expected in variants]
EVERY_ID = [f"{name}-{number}" for name, variants in EXPECTED.items() for number in range(len(variants))]
REGIONS = [None, Region(0.5, 0.5)]


def text_numbers(columns: list[list[str]]) -> list[Tensor]:
    """Identities of the texts by the words themselves, one column each."""
    known = sorted({text for column in columns for text in column})
    return [torch.tensor([known.index(text) for text in column]) for column in columns]


def test_every_loss_is_expected():
    assert list(EXPECTED) == list(LOSSES)


@pytest.mark.parametrize("columns", [2, 3, 4], ids=["pairs", "triplets", "quadruplets"])
@pytest.mark.parametrize(("name", "arguments", "expected"), EVERY, ids=EVERY_ID)
def test_terms_are_the_objectives(tiny_encoder, name: str, arguments: dict, expected: Callable, columns: int):
    """Of the normalised embeddings, with texts that occur more than once, in value and by the embeddings' gradient."""
    if name == "contextual-infonce" and columns == 2:
        pytest.skip("needs a third column")
    texts = [ANCHORS, POSITIVES, *NEGATIVE_COLUMNS][:columns]
    loss = LOSSES[name](tiny_encoder, **arguments).eval()
    with watched(tiny_encoder) as passes:
        terms = loss(tokenised(tiny_encoder, *texts))
    embeddings = [embedding for _, embedding in passes]
    x, y, *extra = (torch.nn.functional.normalize(e, dim=1) for e in embeddings)
    anchors, positives, *others = text_numbers(texts)
    batch = {"texts": torch.stack([anchors, positives], dim=1)}
    batch |= {"extra_texts": torch.cat(others)} if others else {}
    wanted = expected(x, y, torch.cat(extra) if extra else None, **batch)
    torch.testing.assert_close(dict(terms), wanted, rtol=1e-5, atol=1e-5)
    slopes, wanted_slopes = (torch.autograd.grad(total(t), embeddings, retain_graph=True) for t in (terms, wanted))
    torch.testing.assert_close(slopes, wanted_slopes, rtol=1e-4, atol=1e-5)
    assert sum(slope.abs().sum() for slope in slopes) > 0


PAIRWISE = {name: make for name, make in LOSSES.items() if name != "contextual-infonce"}


@pytest.mark.parametrize("make", PAIRWISE.values(), ids=PAIRWISE)
def test_dropout_views_are_one_forward_pass_of_two_rows_a_text(tiny_encoder, make):
    loss = make(tiny_encoder).train()
    with watched(tiny_encoder) as passes:
        terms = loss(tokenised(tiny_encoder, ANCHORS))
    ((tokens, embeddings),) = passes
    rows = len(ANCHORS)
    assert tokens.shape[0] == 2 * rows and torch.equal(tokens[:rows], tokens[rows:])
    first, second = embeddings.chunk(2)
    assert ((first - second).abs().amax(dim=1) > 1e-3).all()  # the dropout masks differ
    texts = torch.tensor([[0], [1], [0], [3]])
    x, y = torch.nn.functional.normalize(embeddings, dim=1).chunk(2)
    torch.testing.assert_close(terms, loss.terms(x, y, texts=texts))
    total(terms).backward()
    assert tiny_encoder[0].auto_model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_repeated_sentence_is_not_its_own_negative_among_dropout_views(tiny_encoder):
    loss = FMICLLoss(tiny_encoder, "kl", sigma=SIGMA, alpha=ALPHA, negatives="within").train()
    with watched(tiny_encoder) as passes:
        terms = loss(tokenised(tiny_encoder, ANCHORS))
    x, y = passes[0][1].detach().double().chunk(2)
    expected = formulas.fmicl(
        x.numpy(),
        y.numpy(),
        row=TABLE["kl"],
        ratio=formulas.gaussian(SIGMA),
        alpha=ALPHA,
        texts=[{text} for text in ANCHORS],
    )
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_views_coincide_in_eval_mode(tiny_encoder):
    loss = FMICLLoss(tiny_encoder, "kl").eval()
    assert loss(tokenised(tiny_encoder, DISTINCT))["positive"].item() == pytest.approx(-1, abs=1e-4)  # -f'(1)


def test_columns_of_pairs_are_encoded_once_each(tiny_encoder):
    with watched(tiny_encoder) as passes:
        FMICLLoss(tiny_encoder)(tokenised(tiny_encoder, ANCHORS, POSITIVES))
    assert [len(tokens) for tokens, _ in passes] == [4, 4]


def static_encoder(tiny_encoder: SentenceTransformer) -> SentenceTransformer:
    """A bag of words, whose column is one flat list of tokens and has no identities."""
    return SentenceTransformer(modules=[StaticEmbedding(tiny_encoder.tokenizer, embedding_dim=8)], device="cpu")


def test_pairs_without_token_identities(tiny_encoder):
    model = static_encoder(tiny_encoder)
    loss = FMICLLoss(model)
    expected = loss.compute_loss_from_embeddings(embedded(model, ANCHORS, POSITIVES))
    torch.testing.assert_close(loss(tokenised(model, ANCHORS, POSITIVES)), expected, rtol=1e-4, atol=1e-5)


def test_one_column_that_cannot_be_doubled_is_refused(tiny_encoder):
    model = static_encoder(tiny_encoder)
    with pytest.raises(ValueError, match="dropout views"):
        FMICLLoss(model)(tokenised(model, ANCHORS))


@pytest.mark.parametrize("make", PAIRWISE.values(), ids=PAIRWISE)
def test_embeddings_in_place_of_sentences(tiny_encoder, make):
    """The same as through the encoder, whatever the embeddings' length and precision."""
    loss = make(tiny_encoder).eval()
    columns = [DISTINCT, POSITIVES[:1] + NEGATIVE_COLUMNS[1][:3]]
    embeddings = embedded(tiny_encoder, *columns)
    expected = loss(tokenised(tiny_encoder, *columns))
    torch.testing.assert_close(loss.compute_loss_from_embeddings(embeddings), expected, rtol=1e-4, atol=1e-5)
    scaled = loss.compute_loss_from_embeddings([7 * e for e in embeddings])
    torch.testing.assert_close(scaled, expected, rtol=1e-4, atol=1e-5)
    half = loss.compute_loss_from_embeddings([e.bfloat16() for e in embeddings])
    widened = loss.compute_loss_from_embeddings([e.bfloat16().float() for e in embeddings])
    torch.testing.assert_close(half, widened, rtol=0, atol=0)
    double = loss.compute_loss_from_embeddings([e.double() for e in embeddings])
    assert double["positive"].dtype == torch.float64
    with pytest.raises(ValueError, match=r"anchor and a positive column at least, got 1 column"):
        loss.compute_loss_from_embeddings(embeddings[:1])


@pytest.mark.parametrize("columns", [(ANCHORS,), (ANCHORS, POSITIVES)], ids=["views", "pairs"])
@pytest.mark.parametrize("make", PAIRWISE.values(), ids=PAIRWISE)
def test_loss_arithmetic_is_float32_under_autocast(tiny_encoder, make, columns):
    loss = make(tiny_encoder, head="mlp")
    with watched(tiny_encoder) as passes, torch.autocast("cpu", torch.bfloat16):
        terms = loss(tokenised(tiny_encoder, *columns))
    embeddings = [e for _, output in passes for e in output.float().chunk(3 - len(columns))]
    texts = torch.tensor({1: [[0], [1], [0], [3]], 2: [[0, 4], [1, 3], [0, 5], [3, 6]]}[len(columns)])
    x, y = (torch.nn.functional.normalize(loss.head(e), dim=1) for e in embeddings)
    torch.testing.assert_close(terms, loss.terms(x, y, texts=texts), rtol=1e-6, atol=1e-6)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    total(terms).backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)


def test_head_stands_between_embeddings_and_objective(tiny_encoder):
    loss = FMICLLoss(tiny_encoder, "kl", sigma=SIGMA, alpha=ALPHA, negatives="within", head="mlp").eval()
    layer = loss.head[0]
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    x, y = (np.tanh(e @ weight.T + bias) for e in encoded(tiny_encoder, DISTINCT, POSITIVES))
    terms = loss.compute_loss_from_embeddings(embedded(tiny_encoder, DISTINCT, POSITIVES))
    expected = formulas.fmicl(x, y, row=TABLE["kl"], ratio=formulas.gaussian(SIGMA), alpha=ALPHA)
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected, rel=1e-4)
    total(terms).backward()
    assert layer.weight.grad.abs().sum() > 0 and layer.bias.grad.abs().sum() > 0


FIXED_WIDTH = {"alignment-uniformity", "spectral", "kcl", "focal-infonce"}


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in FIXED_WIDTH])
def test_learned_width_has_a_gradient(tiny_encoder, name: str):
    loss = LOSSES[name](tiny_encoder, learn_kernel=True)
    total(loss(tokenised(tiny_encoder, DISTINCT, POSITIVES, NEGATIVE_COLUMNS[0]))).backward()
    (parameter,) = loss.own_parameters()
    assert parameter.grad.abs() > 0


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_inside_matryoshka(tiny_encoder, make):
    """The weighted sum of the loss over truncated embeddings."""
    loss = make(tiny_encoder).eval()
    matryoshka = MatryoshkaLoss(tiny_encoder, loss, matryoshka_dims=[32, 8], matryoshka_weights=[1, 0.5]).eval()
    columns = [DISTINCT, POSITIVES[:1] + NEGATIVE_COLUMNS[1][:3], ["dog", "cat", "horse", "ball"]]
    embeddings = embedded(tiny_encoder, *columns)
    value = total(matryoshka(tokenised(tiny_encoder, *columns), None))
    full, short = (total(loss.compute_loss_from_embeddings([e[:, :dim] for e in embeddings])) for dim in (32, 8))
    torch.testing.assert_close(value, full + 0.5 * short, rtol=1e-4, atol=1e-5)
    value.backward()


def test_defaults_are_the_documented_ones(tiny_encoder):
    x, y = torch.eye(4).chunk(2)
    documented = FMICLLoss(tiny_encoder, divergence="kl", sigma=0.25, mu=1, balance_cosine=0.1, negatives="cross")
    torch.testing.assert_close(
        FMICLLoss(tiny_encoder).compute_loss_from_embeddings([x, y]), documented.compute_loss_from_embeddings([x, y])
    )


SHOWN = {  # what a default loss says of itself, beside head, cache, devices, queue and region
    "fmicl": {"divergence": "kl", "kernel": "gaussian", "sigma": 0.25, "mu": 1.0, "balance_cosine": 0.1}
    | {"negatives": "cross", "learn_kernel": False},
    "infonce": {"kernel": "cosine", "temperature": 0.05, "symmetric": False, "learn_kernel": False},
    "ntxent": {"temperature": 0.5, "learn_kernel": False},
    "alignment-uniformity": {"power": 2.0, "t": 2.0, "align_weight": 1.0, "uniform_weight": 1.0},
    "spectral": {"mu": 1.0},
    "kernel-infonce": {"kernel": "laplacian", "temperature": 0.1, "learn_kernel": False},
    "dhel": {"temperature": 0.3, "both_views": True, "learn_kernel": False},
    "kcl": {"kernel": "gaussian", "gamma": 16.0, "t": 2.0},
    "dcl": {"temperature": 0.1, "symmetric": True, "learn_kernel": False},
    "focal-infonce": {"temperature": 0.05, "margin": 0.3},
    "hcl": {"temperature": 0.5, "tau_plus": 0.1, "beta": 1.0, "learn_kernel": False},
    "asymmetric-infonce": {"temperature": 0.5, "degree": 0.2, "learn_kernel": False},
    "contextual-infonce": {"temperature": 0.05, "learn_kernel": False},
}


@pytest.mark.parametrize("name", LOSSES)
def test_model_card_entries_are_what_is_in_force(tiny_encoder, name: str):
    said = LOSSES[name](tiny_encoder).get_config_dict()
    assert json.loads(json.dumps(said)) == SHOWN[name] | {"gather_across_devices": True}


@pytest.mark.parametrize(("name", "arguments", "_"), EVERY, ids=EVERY_ID)
def test_model_card_entries_are_what_was_given(tiny_encoder, name: str, arguments: dict, _):
    common = {"head": "mlp", "mini_batch_size": 2, "gather_across_devices": False}
    if name in PAIRWISE:
        common |= {"queue": 8, "momentum": 0.9}
    loss = LOSSES[name](tiny_encoder, **arguments, **common)
    said = json.loads(json.dumps(loss.get_config_dict()))
    assert {key: said[key] for key in (arguments | common)} == arguments | common


def test_model_card_entries_of_variants(tiny_encoder):
    tsallis = FMICLLoss(tiny_encoder, "tsallis", region=Region(0.2)).get_config_dict()
    assert tsallis["order"] == 2.0 and "0.2" in tsallis["region"]
    mixed = LOSSES["kernel-infonce"](tiny_encoder, kernel="exponential", mix="losses").get_config_dict()
    assert (mixed["gamma"], mixed["second_temperature"], mixed["weight"]) == (0.5, 0.1, 0.5)
    assert LOSSES["kcl"](tiny_encoder, kernel="riesz").get_config_dict()["s"] == 1.0


PAPERS = {
    "fmicl": ("Yiwei Lu", "f-{MICL}"),
    "infonce": ("Oord", "1807.03748"),
    "ntxent": ("Ting Chen", "2002.05709"),
    "alignment-uniformity": ("Tongzhou Wang", "2005.10242"),
    "spectral": ("Jeff Z. HaoChen", "2106.04156"),
    "kernel-infonce": ("Zhiquan Tan", "2303.15103"),
    "dhel": ("Koromilas", "2405.18045"),
    "kcl": ("Koromilas", "2405.18045"),
    "dcl": ("Chun-Hsiao Yeh", "2110.06848"),
    "focal-infonce": ("Pengyue Hou", "2310.06918"),
    "hcl": ("Joshua Robinson", "2010.04592"),
    "asymmetric-infonce": ("Qiying Yu", "2207.08374"),
    "contextual-infonce": (r"F{\"u}rnkranz", "2407.05898"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_citation_is_bibtex(name: str):
    citation = LOSSES[name].citation.strip()
    assert re.match(r"@\w+\{[\w-]+,\n", citation) and citation.endswith("\n}")
    assert citation.count("{") == citation.count("}") and all(part in citation for part in PAPERS[name])
    assert re.findall(r"^    (\w+) = \{", citation, re.MULTILINE)[:3] == ["title", "author", "year"] or name == "fmicl"
    assert not re.search(r"[^,{]\n    \w+ = ", citation)  # a comma after every field


WARM = [name for name in LOSSES if name not in ("fmicl", "alignment-uniformity", "spectral", "kcl")]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (FMICLLoss, {"divergence": "hellinger"}, "divergence must be one of jeffreys, js, kl, .* got 'hellinger'"),
        (FMICLLoss, {"divergence": "pearsn"}, "did you mean 'pearson'"),
        (FMICLLoss, {"divergence": "kl", "order": 2.0}, "order belongs to the divergence 'tsallis'"),
        (FMICLLoss, {"kernel": "laplace"}, "kernel must be one of gaussian, cosine, cosine-critic, got 'laplace'"),
        (InfoNCELoss, {"kernel": "cosine-critic"}, "kernel must be one of gaussian, cosine, got"),
        (FMICLLoss, {"temperature": 0.05}, "gaussian kernel takes sigma and mu, not temperature"),
        (InfoNCELoss, {"sigma": 0.05}, "cosine kernel takes temperature, not sigma"),
        (FMICLLoss, {"sigma": 0}, "sigma must be a positive finite number"),
        (FMICLLoss, {"negatives": "all"}, "negatives must be one of within, cross, both, anchor, got 'all'"),
        (FMICLLoss, {"alpha": -1}, "alpha must be a finite number of at least 0, got -1"),
        (FMICLLoss, {"alpha": 1.0, "balance_cosine": 0.1}, "give one of alpha and balance_cosine"),
        (FMICLLoss, {"balance_cosine": 2}, r"balance_cosine must be in \[-1, 1\]"),
        (FMICLLoss, {"divergence": "sh", "sigma": 0.1}, "critic of divergence 'sh' .* take a wider kernel"),
        (
            FMICLLoss,
            {"divergence": "pearson", "kernel": "cosine", "temperature": 0.01},
            "(critic|penalty) of divergence 'pearson' .* take a wider kernel",
        ),
        (FMICLLoss, {"shift": "dv", "alpha": 2.0}, "shift takes the place of alpha and balance_cosine"),
        (FMICLLoss, {"shift": "js"}, "shift must be 'dv' or None, got 'js'"),
        (FMICLLoss, {"kernel": "cosine-critic", "learn_kernel": True}, "learn_kernel does not go with"),
        *((LOSSES[name], {"temperature": 0}, "temperature must be a positive finite number, got 0") for name in WARM),
        *((loss, {"mini_batch_size": 0}, "mini_batch_size must be at least 1, got 0") for loss in LOSSES.values()),
        *((loss, {"head": "linear"}, "head must be 'mlp' or None, got 'linear'") for loss in LOSSES.values()),
        (LOSSES["alignment-uniformity"], {"power": 3}, "power must be above 0 and at most 2, got 3"),
        (LOSSES["alignment-uniformity"], {"t": 0}, "t must be a positive finite number, got 0"),
        (LOSSES["alignment-uniformity"], {"uniform_weight": -1}, "uniform_weight must be a positive finite number"),
        (LOSSES["spectral"], {"mu": 0}, "mu must be a positive finite number, got 0"),
        (LOSSES["kernel-infonce"], {"kernel": "cauchy"}, "kernel must be one of gaussian, laplacian, exponential, got"),
        (
            LOSSES["kernel-infonce"],
            {"gamma": 1.5},
            "gamma belongs to the exponential kernel; the lap",
        ),
        (LOSSES["kernel-infonce"], {"kernel": "exponential", "gamma": 3}, "gamma must be above 0 and at most 2, got 3"),
        (LOSSES["kernel-infonce"], {"mix": "product"}, "mix must be 'sum', 'losses', 'concatenation' or None, got"),
        (LOSSES["kernel-infonce"], {"second_temperature": 0.2}, "second_temperature belongs to the Gaussian"),
        (LOSSES["kernel-infonce"], {"mix": "sum", "second_temperature": 0}, "second_temperature must be a positive"),
        (LOSSES["kernel-infonce"], {"mix": "sum", "weight": 0.5}, "weight .* belongs to mix='losses'"),
        (LOSSES["kernel-infonce"], {"mix": "losses", "weight": 2}, r"weight must be in \[0, 1\]"),
        (LOSSES["kcl"], {"kernel": "laplace"}, "kernel must be one of gaussian, log, imq, riesz, got 'laplace'"),
        (LOSSES["kcl"], {"kernel": "imq", "t": 1.0}, "the imq kernel takes c, not t"),
        (LOSSES["kcl"], {"gamma": -1}, "gamma must be a positive finite number, got -1"),
        (LOSSES["kcl"], {"t": 0}, "t must be a positive finite number, got 0"),
        (LOSSES["dcl"], {"weight_sigma": 0}, "weight_sigma must be a positive finite number, got 0"),
        (LOSSES["focal-infonce"], {"margin": -0.1}, "margin must be a finite number of at least 0, got -0.1"),
        (LOSSES["hcl"], {"tau_plus": 1}, r"tau_plus must be in \[0, 1\), got 1"),
        (LOSSES["hcl"], {"beta": float("nan")}, "beta must be a finite number of at least 0, got nan"),
        (LOSSES["asymmetric-infonce"], {"degree": 1.5}, r"degree must be in \[0, 1\], got 1.5"),
        (LOSSES["contextual-infonce"], {"region": Region(0.5)}, "region and queue must be None"),
    ],
)
def test_errors(tiny_encoder, make, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make(tiny_encoder, **arguments)


def test_ruled_out_divergence_warns(tiny_encoder):
    with pytest.warns(UserWarning, match="paper rules out Neyman"):
        FMICLLoss(tiny_encoder, "neyman")


def test_own_state_is_what_the_encoder_has_not(tiny_encoder):
    make = {"head": "mlp", "learn_kernel": True, "alpha": "auto"}
    loss, other = FMICLLoss(tiny_encoder, **make), FMICLLoss(tiny_encoder, **make)
    total(loss(tokenised(tiny_encoder, DISTINCT)))  # moves the average
    other.load_own_state(loss.own_state())
    for key, value in loss.own_state().items():
        assert torch.equal(other.own_state()[key], value)
    assert len(loss.own_state()) == 4  # the head's weight and bias, the width, the average
    assert not FMICLLoss(tiny_encoder).own_state()
    with pytest.raises(ValueError, match="head, kernel, alpha, queue or region were configured differently"):
        FMICLLoss(tiny_encoder, head="mlp").load_own_state(loss.own_state())


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_batches_that_are_refused(tiny_encoder, make):
    loss = make(tiny_encoder)
    columns = tokenised(tiny_encoder, DISTINCT, POSITIVES, NEGATIVE_COLUMNS[0])
    with pytest.raises(ValueError, match=r"labels must be None: .* remove the label or score column"):
        loss(columns, torch.ones(4))
    with pytest.raises(ValueError, match="labels must be None"):
        loss.compute_loss_from_embeddings([torch.eye(4)] * 3, torch.ones(4))
    with pytest.raises(ValueError, match=r"same shape \(B, D\) in every column, got \[\(3, 4\), \(4, 4\)\]"):
        loss.compute_loss_from_embeddings([torch.eye(4), torch.eye(4), torch.eye(4)[:3]])
    single = [torch.eye(4)[:1]] * 2
    with pytest.raises(ValueError, match=r"at least 2 rows|give a third column"):
        loss.compute_loss_from_embeddings(single)
    with pytest.raises(ValueError, match=r"B > 0|give a third column"):
        loss.compute_loss_from_embeddings([torch.zeros(0, 4)] * 2)
    if make is LOSSES["contextual-infonce"]:
        with pytest.raises(ValueError, match="give a third column"):
            loss(columns[:2])


@pytest.mark.parametrize("mini_batch_size", [None, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite(tiny_encoder, value: float, mini_batch_size: int | None):
    """Named by their rows, in whichever column."""
    with torch.no_grad():
        words = tiny_encoder[0].auto_model.get_input_embeddings().weight
        words[tiny_encoder.tokenizer.convert_tokens_to_ids("guitar")] = value
    loss = InfoNCELoss(tiny_encoder, mini_batch_size=mini_batch_size)
    negatives = ["a cat", "the guitar", "the man sings", "dog"]
    with pytest.raises(NonFiniteEmbeddings, match="the encoder gave NaN or infinity for 2 of 4 rows") as error:
        loss(tokenised(tiny_encoder, DISTINCT, ["a", "the", "in", "a guitar"], negatives))
    assert error.value.rows == [1, 3]


MEANS = ("fmicl", "spectral", "kcl", "contextual-infonce")


@pytest.mark.parametrize(("name", "arguments", "_"), EVERY, ids=EVERY_ID)
def test_micro_batches_of_a_mean_have_the_gradient_of_the_batch_on_average(name: str, arguments: dict, _):
    """Over all ways to draw three rows of six: exactly so for a mean, and for no other loss."""
    loss = LOSSES[name](MeanOfTokens(), **arguments)
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(2 if name in PAIRWISE else 3, 6, 8, generator=generator, dtype=torch.float64).requires_grad_()

    def gradient(rows: tuple[int, ...]) -> Tensor:
        value = total(loss.compute_loss_from_embeddings([column[list(rows)] for column in columns]))
        return torch.autograd.grad(value, columns)[0]

    whole = gradient(tuple(range(6)))
    drawn = [gradient(rows) for rows in combinations(range(6), 3)]
    same = torch.allclose(torch.stack(drawn).mean(dim=0), whole, rtol=1e-9, atol=1e-12)
    assert same == loss.is_mean == (name in MEANS and "shift" not in arguments)


def test_a_running_average_makes_it_no_mean():
    assert not FMICLLoss(MeanOfTokens(), alpha="auto").is_mean
