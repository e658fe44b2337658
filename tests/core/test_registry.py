"""Divergences, kernels and objectives by name: listed without torch, found by file, extended by users."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fmicl_text import core
from fmicl_text.core import (
    DIVERGENCES,
    KERNELS,
    OBJECTIVES,
    CosineKernel,
    Divergence,
    Kernel,
    divergence_named,
    fmicl,
    kernel_named,
    register_divergence,
    register_kernel,
    tsallis,
)
from fmicl_text.core.registry import Registry


def half_square(u: torch.Tensor) -> torch.Tensor:
    return (u.square() - 1) / 2


def double(r: torch.Tensor) -> torch.Tensor:
    return torch.exp(2 * r) / 2 + 0.5


HALF_SQUARE = Divergence(  # f(u) = (u^2 - 1) / 2
    "half-square",
    "half the square",
    generator=half_square,
    critic=torch.exp,
    penalty=double,
    inverse_critic=torch.log,
    domain=(0.0, float("inf")),
)


class SquaredKernel(Kernel):
    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__(temperature, learn=False)

    def forward(self, cosine: torch.Tensor) -> torch.Tensor:
        return cosine.square() / self.temperature


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch):
    """Whatever a test registers is gone after it."""
    for registry in (DIVERGENCES, KERNELS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))


def test_names_are_listed_without_torch():
    code = (
        "import sys; from fmicl_text import core; "
        "print(*core.DIVERGENCES, *core.KERNELS, *core.OBJECTIVES, *dir(core)); print('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, torch_imported = finished.stdout.splitlines()
    assert torch_imported == "False"
    assert {"kl", "tsallis", "gaussian", "infonce", "kernel_infonce_mixed"} <= set(names.split())


@pytest.mark.parametrize("name", core.__all__)
def test_every_export_exists(name: str):
    assert getattr(core, name) is not None


def test_an_unknown_export():
    with pytest.raises(AttributeError, match=r"module 'fmicl_text.core' has no attribute 'infonse'"):
        _ = core.infonse


@pytest.mark.parametrize(
    ("names", "folder"), [(DIVERGENCES, "divergences"), (OBJECTIVES, "objectives")], ids=["divergences", "objectives"]
)
def test_one_file_each(names, folder: str):
    files = (Path(core.__file__).parent / folder).glob("*.py")
    assert sorted(names) == sorted(file.stem for file in files if file.stem != "__init__")


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_has_the_name_of_its_file(name: str):
    assert DIVERGENCES[name].name == name


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_has_the_name_of_its_file(name: str):
    assert getattr(core, name).__module__ == f"fmicl_text.core.objectives.{name}"


def test_a_file_is_all_that_a_new_divergence_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "some_divergences"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text("DIVERGENCE = 'imported'\n")
    (package / "broken.py").write_text("raise RuntimeError('imported too early')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    found = Registry.of_files("divergence", "some_divergences", "DIVERGENCE")
    assert list(found) == ["broken", "mine"] and len(found) == 2 and "mine" in found
    assert found["mine"] == found.named("mine") == "imported"


@pytest.mark.parametrize("divergence", [*DIVERGENCES.values(), tsallis(1.5)], ids=lambda d: d.title)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))], ids=["copy", "pickle"])
def test_divergences_can_be_copied_and_pickled(divergence: Divergence, copied):
    again = copied(divergence)
    r = torch.linspace(-3, 0.5, 20, dtype=torch.float64)
    assert (again.name, again.title, again.domain) == (divergence.name, divergence.title, divergence.domain)
    for function in ("critic", "penalty"):
        assert torch.equal(getattr(again, function)(r), getattr(divergence, function)(r))
    assert torch.equal(again.generator(r.exp()), divergence.generator(r.exp()))
    t = divergence.critic(r)
    assert torch.equal(again.inverse_critic(t), divergence.inverse_critic(t))


def test_kernels_can_be_copied_and_pickled():
    kernel = kernel_named("cosine-critic", divergence=tsallis(1.5))
    for again in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert torch.equal(again(torch.tensor(0.3)), kernel(torch.tensor(0.3)))


@pytest.mark.usefixtures("fresh")
def test_a_users_divergence():
    register_divergence(HALF_SQUARE)
    register_divergence(HALF_SQUARE)  # a module may be imported twice
    assert divergence_named("half-square") is HALF_SQUARE and "half-square" in list(DIVERGENCES)
    x = torch.eye(4)
    assert fmicl(x, x, divergence=divergence_named("half-square"))["negative"].isfinite()


@pytest.mark.usefixtures("fresh")
def test_a_users_kernel():
    register_kernel("squared", SquaredKernel)
    assert isinstance(kernel_named("squared"), SquaredKernel)
    assert kernel_named("squared", temperature=0.2, sigma=None).temperature == 0.2
    with pytest.raises(ValueError, match="the squared kernel takes temperature, not sigma"):
        kernel_named("squared", sigma=0.2)
    with pytest.raises(ValueError, match="learn_kernel does not go with the kernel 'squared'"):
        kernel_named("squared", learn=True)


@pytest.mark.usefixtures("fresh")
def test_a_name_that_is_taken():
    with pytest.raises(ValueError, match="there already is a divergence called 'kl'; register yours under another"):
        register_divergence(Divergence(**(vars(HALF_SQUARE) | {"name": "kl"})))
    with pytest.raises(ValueError, match="there already is a kernel called 'gaussian'"):
        register_kernel("gaussian", CosineKernel)


def test_registries_end_with_their_test():
    assert "half-square" not in DIVERGENCES and "squared" not in KERNELS
