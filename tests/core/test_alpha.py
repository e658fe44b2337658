"""The weight of the negative term: a number, the balance of push and pull, and the running average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import DIVERGENCES, KL, Alpha, CosineCritic, CosineKernel, GaussianKernel, Kernel, SumKernel, fmicl


def batch(size: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(size, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def mean_ratio(x: Tensor, kernel: Kernel) -> float:
    """Mean density ratio over pairs of different rows."""
    ratios = [kernel(x[i] @ x[j]).exp().item() for i in range(len(x)) for j in range(len(x)) if i != j]
    return sum(ratios) / len(ratios)


def weight(alpha: Alpha, x: Tensor, kernel: Kernel) -> float:
    """The weight a batch gets: the ratio of its negative term to the unweighted one."""
    unweighted = fmicl(x, x, divergence=KL, kernel=kernel)["negative"]
    return (fmicl(x, x, divergence=KL, kernel=kernel, alpha=alpha)["negative"] / unweighted).item()


def test_number():
    assert weight(Alpha(409600), batch(5), GaussianKernel()) == pytest.approx(409600)


@pytest.mark.parametrize("cosine", [0.1, 0.4])
@pytest.mark.parametrize("kernel", ["gaussian", "cosine", "cosine-critic"])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_push_equals_pull_at_the_balance_cosine(name: str, kernel: str, cosine: float):
    """In float32, as in training: alpha times the penalty's slope is the critic's slope."""
    divergence = DIVERGENCES[name]
    kernels = {"gaussian": GaussianKernel(0.25), "cosine": CosineKernel(0.2), "cosine-critic": CosineCritic(divergence)}
    if kernel == "cosine-critic" and name == "rkl":
        cosine = -cosine  # reverse KL's critic is negative: no cosine above 0 is inside its domain
    density = kernels[kernel]
    s = torch.tensor(cosine, requires_grad=True)
    (pull,) = torch.autograd.grad(divergence.critic(density(s)), s)
    (push,) = torch.autograd.grad(Alpha(balance_cosine=cosine)(density, []) * divergence.penalty(density(s)), s)
    assert pull > 0
    torch.testing.assert_close(push, pull, rtol=1e-4, atol=0)


def test_the_papers_alpha_as_a_cosine():
    """alpha = 409600 at c = 20 balances at 1 - ln(alpha)/(2c) = 0.677."""
    kernel = GaussianKernel(math.sqrt(1 / 40))
    assert Alpha(balance_cosine=1 - math.log(409600) / 40)(kernel, []).item() == pytest.approx(409600, rel=1e-4)


@pytest.mark.parametrize("kernel", [GaussianKernel(0.5), CosineKernel(0.5)])
def test_auto_follows_the_mean_ratio(kernel: Kernel):
    alpha = Alpha("auto", decay=0.9)
    average = None
    for seed in range(4):
        x = batch(5, seed)
        ratio = mean_ratio(x, kernel)
        average = ratio if average is None else 0.9 * average + 0.1 * ratio
        assert weight(alpha, x, kernel) == pytest.approx(1 / average, rel=1e-5)
    alpha.eval()
    assert weight(alpha, batch(5, seed=9), kernel) == pytest.approx(1 / average, rel=1e-5)
    assert alpha.mean_ratio.item() == pytest.approx(average, rel=1e-5)


def test_auto_looks_at_the_pairs_that_count():
    """Explicit negatives are among them, texts that occur twice are not."""
    kernel, x, extra = GaussianKernel(0.5), batch(3), batch(2, seed=1)
    alpha = Alpha("auto")
    fmicl(
        x, x, extra, kernel=kernel, alpha=alpha, texts=torch.tensor([[0], [1], [0]]), extra_texts=torch.tensor([5, 1])
    )
    cosines = [x[0] @ x[1], x[1] @ x[0], x[1] @ x[2], x[2] @ x[1]]
    cosines += [x[i] @ extra[0] for i in range(3)] + [x[0] @ extra[1], x[2] @ extra[1]]
    assert alpha.mean_ratio.item() == pytest.approx(kernel(torch.stack(cosines)).exp().mean().item(), rel=1e-5)


def test_auto_is_part_of_the_state():
    alpha, again = Alpha("auto"), Alpha("auto")
    weight(alpha, batch(5), GaussianKernel(0.5))
    again.load_state_dict(alpha.state_dict())
    assert again.mean_ratio == alpha.mean_ratio > 0
    assert not Alpha(1.0).state_dict() and not Alpha(balance_cosine=0.5).state_dict()


def test_auto_is_not_moved_by_a_batch_without_negatives():
    alpha, kernel = Alpha("auto"), GaussianKernel(0.5)
    fmicl(batch(5), batch(5), kernel=kernel, alpha=alpha)
    average = alpha.mean_ratio.item()
    terms = fmicl(batch(3), batch(3), kernel=kernel, alpha=alpha, texts=torch.zeros(3, 1).long())
    assert alpha.mean_ratio.item() == average and terms["negative"] == 0


def test_auto_before_any_training_batch_weighs_by_the_batch_at_hand():
    """The trainer may evaluate first (``eval_on_start``)."""
    alpha, kernel, x = Alpha("auto").eval(), GaussianKernel(0.5), batch(5)
    assert weight(alpha, x, kernel) == pytest.approx(1 / mean_ratio(x, kernel), rel=1e-5)
    assert alpha.mean_ratio == 0


def test_nan_is_no_reason_to_warn_of_the_balance(caplog):
    """The trainer stops at it, and says which rows it is of."""
    terms = fmicl(batch(5) * torch.nan, batch(5), alpha=Alpha(balance_cosine=0.5))
    assert terms["negative"].isnan() and not caplog.records


@pytest.mark.parametrize("setting", [{"alpha": "auto"}, {"balance_cosine": 0.3}])
def test_alpha_is_a_constant_for_the_gradient(setting: dict):
    """Of the vectors and of a learned width: the gradients are those of the same alpha given as a number."""

    def gradients(alpha: float | Alpha) -> tuple[Tensor, ...]:
        x = batch(5).requires_grad_()
        kernel = GaussianKernel(0.5, learn=True)
        terms = fmicl(x, batch(5, seed=1), kernel=kernel, alpha=alpha)
        return torch.autograd.grad(sum(terms.values()), [x, *kernel.parameters()])

    if "alpha" in setting:
        number = 1 / mean_ratio(batch(5), GaussianKernel(0.5))
    else:
        number = 1 / GaussianKernel(0.5)(torch.tensor(0.3)).exp().item()
    torch.testing.assert_close(gradients(Alpha(**setting)), gradients(number))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_with_a_learned_width_the_loss_that_is_reported_is_the_one_that_is_minimised(name: str):
    """After the width has moved: the gradient is the slope of the loss, since alpha stays what it was."""
    kernel, x, y = GaussianKernel(0.5, learn=True).double(), batch(5).double(), batch(5, seed=1).double()
    alpha = Alpha(balance_cosine=0.3)
    start = alpha(kernel, [])
    assert isinstance(kernel.log_temperature, torch.nn.Parameter)

    def loss(log_temperature: float) -> Tensor:
        kernel.log_temperature.data.fill_(log_temperature)
        return sum(fmicl(x, y, divergence=DIVERGENCES[name], kernel=kernel, alpha=alpha).values())

    for log_temperature in (math.log(0.25), math.log(0.1), math.log(0.7)):
        slope = (loss(log_temperature + 1e-6) - loss(log_temperature - 1e-6)) / 2e-6
        (gradient,) = torch.autograd.grad(loss(log_temperature), kernel.log_temperature)
        assert gradient.item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-7)
        assert alpha(kernel, []) == start


def test_alpha_at_a_learned_width_of_two_kernels():
    """The widths that a sum of kernels starts from, whatever they are now."""
    kernel = SumKernel(CosineKernel(0.5, learn=True), GaussianKernel(0.5, learn=True))
    start = Alpha(balance_cosine=0.3)(kernel, [])
    for parameter in kernel.parameters():
        parameter.data.fill_(-1.0)
    assert Alpha(balance_cosine=0.3)(kernel, []) == start
    expected = 1 / (math.exp(0.3 / 0.5) + math.exp(-0.7 / 0.25))
    assert start.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of alpha and balance_cosine, got alpha=None, balance_cosine=None"),
        ({"alpha": 2.0, "balance_cosine": 0.5}, "give one of alpha and balance_cosine, got alpha=2.0"),
        ({"alpha": "automatic"}, "alpha must be a number or 'auto', got 'automatic'"),
        ({"alpha": -1.0}, "alpha must be a finite number of at least 0, got -1.0"),
        ({"alpha": math.nan}, "alpha must be a finite number"),
        ({"alpha": math.inf}, "alpha must be a finite number"),
        ({"balance_cosine": 1.5}, r"balance_cosine must be in \[-1, 1\], got 1.5"),
        ({"balance_cosine": -1.01}, r"balance_cosine must be in \[-1, 1\]"),
        ({"balance_cosine": math.nan}, r"balance_cosine must be in \[-1, 1\]"),
    ],
)
def test_errors(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Alpha(**arguments)
