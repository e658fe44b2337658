"""The losses as sentence-transformers modules: what they read from a batch, and what they make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from itertools import combinations

import numpy as np
import pytest
import torch
from loss_cases import MeanOfTokens, total
from loss_table import LOSS_TABLE, PAIRWISE
from reference import formulas
from reference.formulas import TABLE
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor

from fmicl_text import FMICLLoss, InfoNCELoss
from fmicl_text.core import NEGATIVES, Region
from fmicl_text.core.alpha import BATCHES
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


EVERY = [(name, arguments, expected) for name, loss in LOSS_TABLE.items() for arguments, expected in loss.expected]
EVERY_ID = [f"{name}-{number}" for name, loss in LOSS_TABLE.items() for number in range(len(loss.expected))]


def text_numbers(columns: list[list[str]]) -> list[Tensor]:
    """Identities of the texts by the words themselves, one column each."""
    known = sorted({text for column in columns for text in column})
    return [torch.tensor([known.index(text) for text in column]) for column in columns]


def test_every_loss_is_in_the_table():
    assert sorted(LOSS_TABLE) == sorted(LOSSES)


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


MADE_OF_PAIRS = [LOSSES[name] for name in PAIRWISE]


@pytest.mark.parametrize("make", MADE_OF_PAIRS, ids=PAIRWISE)
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
    loss = FMICLLoss(tiny_encoder, "kl", alpha=1, sigma=SIGMA).eval()
    assert loss(tokenised(tiny_encoder, DISTINCT))["positive"].item() == pytest.approx(-1, abs=1e-4)  # -f'(1)


def test_columns_of_pairs_are_encoded_once_each(tiny_encoder):
    with watched(tiny_encoder) as passes:
        FMICLLoss(tiny_encoder)(tokenised(tiny_encoder, ANCHORS, POSITIVES))
    assert [len(tokens) for tokens, _ in passes] == [4, 4]


def static_encoder(tiny_encoder: SentenceTransformer) -> SentenceTransformer:
    """A bag of words, whose column is one flat list of tokens."""
    return SentenceTransformer(modules=[StaticEmbedding(tiny_encoder.tokenizer, embedding_dim=8)], device="cpu")


@pytest.mark.parametrize("columns", [2, 3], ids=["pairs", "triplets"])
def test_duplicates_of_a_static_embedding_are_no_negatives(tiny_encoder, columns: int):
    texts = [ANCHORS, POSITIVES, *NEGATIVE_COLUMNS][:columns]
    model = static_encoder(tiny_encoder)
    terms = FMICLLoss(model, "kl", sigma=SIGMA, alpha=ALPHA)(tokenised(model, *texts))
    expected = formulas.fmicl(
        *encoded(model, *texts),
        row=TABLE["kl"],
        ratio=formulas.gaussian(SIGMA),
        alpha=ALPHA,
        negatives="cross",
        **identities(texts),
    )
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_one_column_that_cannot_be_doubled_is_refused(tiny_encoder):
    model = static_encoder(tiny_encoder)
    with pytest.raises(ValueError, match="dropout views"):
        FMICLLoss(model)(tokenised(model, ANCHORS))


@pytest.mark.parametrize("make", MADE_OF_PAIRS, ids=PAIRWISE)
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
@pytest.mark.parametrize("make", MADE_OF_PAIRS, ids=PAIRWISE)
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


@pytest.mark.parametrize("name", [name for name, loss in LOSS_TABLE.items() if loss.learns])
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
    x, y = torch.randn(2, 4, 8)
    documented = FMICLLoss(tiny_encoder, divergence="js", shift="row", sigma="adaptive", negatives="cross")
    torch.testing.assert_close(
        FMICLLoss(tiny_encoder).compute_loss_from_embeddings([x, y]), documented.compute_loss_from_embeddings([x, y])
    )


@pytest.mark.parametrize("name", LOSSES)
def test_model_card_entries_are_what_is_in_force(tiny_encoder, name: str):
    said = LOSSES[name](tiny_encoder).get_config_dict()
    assert json.loads(json.dumps(said)) == LOSS_TABLE[name].shown | {"gather_across_devices": True}


@pytest.mark.parametrize(("name", "arguments", "_"), EVERY, ids=EVERY_ID)
def test_model_card_entries_are_what_was_given(tiny_encoder, name: str, arguments: dict, _):
    common = {"head": "mlp", "mini_batch_size": 2, "gather_across_devices": False}
    if name in PAIRWISE:
        common |= {"queue": 8, "momentum": 0.9}
    loss = LOSSES[name](tiny_encoder, **arguments, **common)
    said = json.loads(json.dumps(loss.get_config_dict()))
    assert {key: said[key] for key in (arguments | common)} == arguments | common


def test_model_card_entries_of_variants(tiny_encoder):
    assert (
        FMICLLoss(tiny_encoder, shift="dv").get_config_dict()
        == FMICLLoss(tiny_encoder, shift="batch").get_config_dict()
    )
    tsallis = FMICLLoss(tiny_encoder, "tsallis", region=Region(0.2)).get_config_dict()
    assert tsallis["order"] == 2.0 and (tsallis["region"], tsallis["region_outer"]) == ("ball", 0.2)
    mixed = LOSSES["kernel-infonce"](tiny_encoder, kernel="exponential", mix="losses").get_config_dict()
    assert (mixed["gamma"], mixed["second_temperature"], mixed["weight"]) == (0.5, 0.1, 0.5)
    assert LOSSES["kcl"](tiny_encoder, kernel="riesz").get_config_dict()["s"] == 1.0


@pytest.mark.parametrize("name", LOSSES)
def test_citation_is_bibtex(name: str):
    citation = LOSSES[name].citation.strip()
    assert re.match(r"@\w+\{[\w-]+,\n", citation) and citation.endswith("\n}")
    assert citation.count("{") == citation.count("}") and all(part in citation for part in LOSS_TABLE[name].paper)
    assert re.findall(r"^    (\w+) = \{", citation, re.MULTILINE)[:3] == ["title", "author", "year"] or name == "fmicl"
    assert not re.search(r"[^,{]\n    \w+ = ", citation)  # a comma after every field


REFUSED = [(name, *case) for name, loss in LOSS_TABLE.items() for case in loss.refused]
REFUSED += [
    (name, arguments, message)
    for name in LOSSES
    for arguments, message in (
        ({"mini_batch_size": 0}, "mini_batch_size must be greater than 0, got 0"),
        ({"head": "linear"}, 'head must be "mlp", got "linear"'),
    )
]


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED)
def test_errors(tiny_encoder, name: str, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LOSSES[name](tiny_encoder, **arguments)


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


@pytest.mark.parametrize("make", [m for name, m in LOSSES.items() if name != "contextual-infonce"])
def test_a_last_batch_of_one_row_is_no_error(tiny_encoder, make):
    """It has no negatives: only the pull of its positive, or where that is in the denominator nothing."""
    loss = make(tiny_encoder)
    single = [v[:1].clone().requires_grad_() for v in torch.eye(4).split(2)]
    terms = loss.compute_loss_from_embeddings(single)
    in_denominator = abs(total(terms).item()) < 1e-6
    assert in_denominator or terms["negative"] == 0
    gradients = torch.autograd.grad(total(terms), single)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert in_denominator or gradients[0].abs().max() > 0


def test_a_batch_of_copies_is_told_once(tiny_encoder, caplog):
    loss = FMICLLoss(tiny_encoder)
    loss(tokenised(tiny_encoder, DISTINCT, DISTINCT[:1] * 2 + DISTINCT[2:]))
    assert not caplog.records
    for _ in range(2):
        loss(tokenised(tiny_encoder, DISTINCT, DISTINCT[:1] * len(DISTINCT)))
    (record,) = caplog.records
    assert "all rows of a batch share a text, an image or a group" in record.message


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_labels_change_nothing_and_are_told_once(tiny_encoder, make, caplog):
    """As with ``MultipleNegativesRankingLoss``, whose users may have such a column."""
    loss = make(tiny_encoder).eval()
    embeddings = embedded(tiny_encoder, DISTINCT, POSITIVES, NEGATIVE_COLUMNS[0])
    without = loss.compute_loss_from_embeddings(embeddings)
    for _ in range(2):
        assert loss.compute_loss_from_embeddings(embeddings, torch.ones(4)) == without
    (record,) = caplog.records
    assert "the label or score column is not used" in record.message


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_batches_that_are_refused(tiny_encoder, make):
    loss = make(tiny_encoder)
    columns = tokenised(tiny_encoder, DISTINCT, POSITIVES, NEGATIVE_COLUMNS[0])
    with pytest.raises(ValueError, match=r"same shape \(B, D\) in every column, got \[\(3, 4\), \(4, 4\)\]"):
        loss.compute_loss_from_embeddings([torch.eye(4), torch.eye(4), torch.eye(4)[:3]])
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


@pytest.mark.parametrize(("name", "arguments", "_"), EVERY, ids=EVERY_ID)
def test_micro_batches_of_a_mean_have_the_gradient_of_the_batch_on_average(name: str, arguments: dict, _):
    """Over all ways to draw three rows of six: exactly so for a mean, and for no other loss."""
    loss = LOSSES[name](MeanOfTokens(), **arguments)
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(2 if name in PAIRWISE else 3, 6, 8, generator=generator, dtype=torch.float64).requires_grad_()

    def gradient(rows: tuple[int, ...]) -> Tensor:
        value = total(loss.compute_loss_from_embeddings([column[list(rows)] for column in columns]))
        return torch.autograd.grad(value, columns)[0]

    for _ in range(BATCHES):  # from which a balance may be measured
        whole = gradient(tuple(range(6)))
    drawn = [gradient(rows) for rows in combinations(range(6), 3)]
    same = torch.allclose(torch.stack(drawn).mean(dim=0), whole, rtol=1e-9, atol=1e-12)
    assert same == loss.is_mean == (LOSS_TABLE[name].is_mean and getattr(loss.objective, "shift", "none") == "none")


def test_a_running_average_makes_it_no_mean():
    assert not FMICLLoss(MeanOfTokens(), alpha="auto").is_mean
    assert FMICLLoss(MeanOfTokens(), balance_cosine="measured").is_mean
