"""Part 1: every objective of the core on the device, value and gradient, against float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from eval.benchmarks.gpu.machine import Budget, compiling, forget_compiled, use_tf32
from fmicl_text import core

ROWS = {"cuda": (256, 768), "cpu": (24, 16)}
"""Rows and dimensions by kind of device."""
DIVERGENCES = {"cuda": tuple(core.DIVERGENCES), "cpu": ("js",)}
"""Divergences of f-MICL by kind of device."""
BOUNDS = {"dense": 5e-5, "tiled": 5e-5, "autocast": 5e-5, "tf32": 5e-3, "fused": 5e-5}
"""Largest relative error of value and gradient by form; TF32 has 11 bits where float32 has 24."""
FUSED = ("fmicl js row", "fmicl pearson row")
"""Objectives that are also computed in tiles that are compiled, which takes seconds each."""

Run = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]


def cases(divergences: Sequence[str]) -> Iterator[tuple[str, Run]]:
    """Yield every objective by name, f-MICL with these divergences and every shift; all with explicit negatives."""
    first, second = core.CosineKernel(0.2), core.GaussianKernel(0.5)
    settings: dict[str, dict[str, Any]] = {
        "kernel_infonce_concatenated": {"first": first, "second": second},
        "kernel_infonce_mixed": {"first": first, "second": second},
    }
    for name in core.OBJECTIVES:
        if name != "fmicl":
            yield name, _called(getattr(core, name), settings.get(name, {}))
    for name in divergences:
        for shift in ("none", "row", "batch"):
            chosen = {"divergence": core.DIVERGENCES[name], "kernel": second, "shift": shift, "negatives": "anchor"}
            if shift == "none":
                chosen["alpha"] = 20.0
            yield f"fmicl {name} {shift}", _called(core.fmicl, chosen)


def _called(objective: Callable[..., dict[str, Tensor]], settings: dict[str, Any]) -> Run:
    def call(x: Tensor, y: Tensor, extra: Tensor, texts: Tensor, extra_texts: Tensor) -> dict[str, Tensor]:
        return objective(x, y, extra, texts=texts, extra_texts=extra_texts, **settings)

    return call


def batch(rows: int, dimensions: int) -> list[Tensor]:
    """Return anchors, positives and explicit negatives in float64, and identities of which some are equal."""
    generator = torch.Generator().manual_seed(0)
    x = normalize(torch.randn(rows, dimensions, generator=generator, dtype=torch.float64), dim=1)  # (B, D)
    noise = torch.randn(rows, dimensions, generator=generator, dtype=torch.float64)
    y = normalize(x + 2.5 * noise / dimensions**0.5, dim=1)  # (B, D); nearer ones leave InfoNCE nothing but rounding
    extra = normalize(torch.randn(rows // 4, dimensions, generator=generator, dtype=torch.float64), dim=1)  # (M, D)
    texts = torch.arange(rows)
    texts[1] = texts[0]
    extra_texts = rows + torch.arange(rows // 4)
    extra_texts[0] = texts[2]
    return [x.float().double(), y.float().double(), extra.float().double(), texts[:, None], extra_texts[:, None]]


def value_and_gradient(run: Run, tensors: list[Tensor], autocast: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and its gradient by each column, in float64 on the CPU."""
    *columns, texts, extra_texts = tensors
    leaves = [column.clone().requires_grad_() for column in columns]
    with torch.autocast(texts.device.type, torch.bfloat16, enabled=autocast):  # the backward pass is outside
        loss = torch.stack(list(run(*leaves, texts, extra_texts).values())).sum()
    loss.backward()
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return loss.detach().double().cpu(), [gradient.double().cpu() for gradient in gradients]


def relative_errors(found: tuple[Tensor, list[Tensor]], right: tuple[Tensor, list[Tensor]]) -> dict[str, float]:
    """Return the error of the value over 1 or the value, and that of the gradient over its norm."""
    value = (found[0] - right[0]).abs() / right[0].abs().clamp(min=1)
    mine, exact = (torch.cat([gradient.flatten() for gradient in of[1]]) for of in (found, right))
    return {"value": value.item(), "gradient": ((mine - exact).norm() / exact.norm()).item()}


def _of_a_ninth(rows: int) -> int:
    """Return the bytes of a tile of a ninth of the pairs."""
    return 32 * math.ceil(rows / 3) ** 2


def forms(device: torch.device, rows: int) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """Return the ways in which every objective is computed: in one matrix, in tiles, under autocast."""
    found: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "dense": lambda: core.tile_memory(2**40),
        "tiled": lambda: core.tile_memory(_of_a_ninth(rows)),
        "autocast": nullcontext,
    }
    return found | ({"tf32": found["tiled"]} if device.type == "cuda" else {})


def run(device: torch.device, budget: Budget, found: dict[str, Any]) -> None:
    """Fill ``found`` with the errors of each objective in each form, and ``wrong`` with those beyond the bounds."""
    rows, dimensions = ROWS[device.type]
    found |= {"rows": rows, "dimensions": dimensions, "bounds": BOUNDS, "errors": {}, "worst": {}, "wrong": []}
    exact = batch(rows, dimensions)
    given = [tensor.to(device, torch.float32 if tensor.is_floating_point() else None) for tensor in exact]
    fused = []
    for name, case in cases(DIVERGENCES[device.type]):
        budget.require()
        with core.tile_memory(2**40):
            right = value_and_gradient(case, exact)
        found["errors"][name] = {}
        if device.type == "cuda" and name in FUSED:
            fused.append((name, case, right))
        for form, context in forms(device, rows).items():
            use_tf32(form == "tf32")
            with context(), compiling(False):
                _compare(found, name, form, value_and_gradient(case, given, autocast=form == "autocast"), right)
    use_tf32(False)
    for name, case, right in fused:  # these take seconds
        budget.require()
        forget_compiled()
        with core.tile_memory(_of_a_ninth(rows)), compiling():
            _compare(found, name, "fused", value_and_gradient(case, given), right)


def _compare(
    found: dict[str, Any], name: str, form: str, mine: tuple[Tensor, list[Tensor]], right: tuple[Tensor, list[Tensor]]
) -> None:
    errors = relative_errors(mine, right)
    found["errors"][name][form] = errors
    worst = max(errors.values())
    found["worst"][form] = max(found["worst"].get(form, 0.0), worst)
    if not worst <= BOUNDS[form]:
        found["wrong"].append(f"{name}, {form}: a relative error of {worst:.1e}, above {BOUNDS[form]:.0e}")


def shown(found: dict[str, Any]) -> list[str]:
    """Return lines for a reader."""
    worst = ", ".join(f"{form} {error:.1e}" for form, error in found["worst"].items())
    return [f"{len(found['errors'])} objectives, {found['rows']} rows; largest relative error: {worst}"]
