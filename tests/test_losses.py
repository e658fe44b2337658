"""The losses as sentence-transformers modules: what they read from a batch, and what they make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from reference import formulas
from reference.formulas import TABLE
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor

from fmicl_text import ContrastiveLoss, FMICLLoss, InfoNCELoss
from fmicl_text.core import NEGATIVES

SIGMA, ALPHA = 0.6, 3.0
# Row 0 and row 2 have one anchor, row 1's positive is row 3's anchor; widths of the columns differ.
ANCHORS = ["a dog runs", "the woman plays a big red guitar in the park", "a dog runs", "water is blue"]
POSITIVES = ["the dog is fast", "water is blue", "dog", "the river is blue and slow"]
NEGATIVE_COLUMNS = [["a cat", "a dog runs", "the man sings", "dog"], ["food", "street", "the city", "a ball"]]
DISTINCT = ["a dog runs", "the woman plays a guitar", "water is blue", "the old man sings"]


def tokenised(model: SentenceTransformer, *columns: list[str]) -> list[dict[str, Tensor]]:
    return [model.preprocess(column) for column in columns]


def total(terms: dict[str, Tensor] | Tensor) -> Tensor:
    return sum(terms.values()) if isinstance(terms, dict) else terms


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
    expected = formulas.infonce(*encoded(tiny_encoder, *texts), temperature=0.2, **identities(texts))
    assert list(terms) == ["positive", "negative"]
    assert total(terms).item() == pytest.approx(expected, rel=1e-4)


LOSSES: dict[str, Callable[[SentenceTransformer], ContrastiveLoss]] = {
    "fmicl": FMICLLoss,
    "infonce": InfoNCELoss,
}


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
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
    torch.testing.assert_close(terms, loss.terms(x, y, None, texts, None))
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


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
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
@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_loss_arithmetic_is_float32_under_autocast(tiny_encoder, make, columns):
    loss = make(tiny_encoder, head="mlp")
    with watched(tiny_encoder) as passes, torch.autocast("cpu", torch.bfloat16):
        terms = loss(tokenised(tiny_encoder, *columns))
    embeddings = [e for _, output in passes for e in output.float().chunk(3 - len(columns))]
    texts = torch.tensor({1: [[0], [1], [0], [3]], 2: [[0, 4], [1, 3], [0, 5], [3, 6]]}[len(columns)])
    x, y = (torch.nn.functional.normalize(loss.head(e), dim=1) for e in embeddings)
    torch.testing.assert_close(terms, loss.terms(x, y, None, texts, None), rtol=1e-6, atol=1e-6)
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


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_learned_width_has_a_gradient(tiny_encoder, make):
    loss = make(tiny_encoder, learn_kernel=True)
    total(loss(tokenised(tiny_encoder, DISTINCT, POSITIVES))).backward()
    (parameter,) = loss.kernel.parameters()
    assert parameter.grad.abs() > 0


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_inside_matryoshka(tiny_encoder, make):
    """The weighted sum of the loss over truncated embeddings."""
    loss = make(tiny_encoder).eval()
    matryoshka = MatryoshkaLoss(tiny_encoder, loss, matryoshka_dims=[32, 8], matryoshka_weights=[1, 0.5]).eval()
    columns = [DISTINCT, POSITIVES[:1] + NEGATIVE_COLUMNS[1][:3]]
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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"divergence": "tsallis", "order": 1.5, "alpha": "auto", "head": "mlp"},
        {"kernel": "cosine", "temperature": 0.3, "learn_kernel": True, "negatives": "both", "alpha": 2.0},
        {"kernel": "cosine-critic", "divergence": "kl", "temperature": 0.5},
    ],
)
def test_model_card_entries(tiny_encoder, settings: dict):
    loss = FMICLLoss(tiny_encoder, **settings)
    config = json.loads(json.dumps(loss.get_config_dict()))
    for key in ("kernel", "alpha", "learn_kernel", "negatives", "head"):
        assert key not in settings or config[key] == settings[key]
    if "order" in settings:
        assert str(settings["order"]) in config["divergence"]
    infonce = json.loads(json.dumps(InfoNCELoss(tiny_encoder).get_config_dict()))
    assert infonce["temperature"] == pytest.approx(0.05)


@pytest.mark.parametrize(("make", "author"), [(FMICLLoss, "Yiwei Lu"), (InfoNCELoss, "Oord")])
def test_citation_is_bibtex(tiny_encoder, make, author: str):
    citation = make(tiny_encoder).citation.strip()
    assert re.match(r"@\w+\{[\w-]+,\n", citation) and citation.endswith("}")
    assert citation.count("{") == citation.count("}") and author in citation
    assert re.findall(r"^    (\w+) = \{", citation, re.MULTILINE)[:2] == ["title", "author"]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (FMICLLoss, {"divergence": "hellinger"}, "divergence must be one of kl, js, .* got 'hellinger'"),
        (FMICLLoss, {"divergence": "pearsn"}, "did you mean 'pearson'"),
        (FMICLLoss, {"divergence": "kl", "order": 2.0}, "order belongs to the divergence 'tsallis'"),
        (FMICLLoss, {"kernel": "laplace"}, "kernel must be one of gaussian, cosine, cosine-critic, got 'laplace'"),
        (InfoNCELoss, {"kernel": "cosine-critic"}, "kernel must be one of gaussian, cosine, got"),
        (FMICLLoss, {"temperature": 0.05}, "gaussian kernel takes sigma and mu, not temperature"),
        (InfoNCELoss, {"sigma": 0.05}, "cosine kernel takes temperature, not sigma"),
        (FMICLLoss, {"sigma": 0}, "sigma must be a positive finite number"),
        (FMICLLoss, {"negatives": "all"}, "negatives must be one of within, cross, both, got 'all'"),
        (FMICLLoss, {"head": "linear"}, "head must be 'mlp' or None, got 'linear'"),
        (InfoNCELoss, {"head": "linear"}, "head must be 'mlp' or None, got 'linear'"),
        (FMICLLoss, {"alpha": -1}, "alpha must be a finite number of at least 0, got -1"),
        (FMICLLoss, {"alpha": 1.0, "balance_cosine": 0.1}, "give one of alpha and balance_cosine"),
        (FMICLLoss, {"balance_cosine": 2}, r"balance_cosine must be in \[-1, 1\]"),
        (FMICLLoss, {"divergence": "sh", "sigma": 0.1}, "critic of divergence 'sh' .* take a wider kernel"),
        (
            FMICLLoss,
            {"divergence": "pearson", "kernel": "cosine", "temperature": 0.01},
            "(critic|penalty) of divergence 'pearson' .* take a wider kernel",
        ),
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
    with pytest.raises(ValueError, match="head, kernel or alpha were configured differently"):
        FMICLLoss(tiny_encoder, head="mlp").load_own_state(loss.own_state())
