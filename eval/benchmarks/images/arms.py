"""What is compared: each arm is an objective under a method, in two settings; and what the paper claims of them."""

from __future__ import annotations

MOCO_V2 = ", queue: 4096, momentum: 0.99"
MOCO_V3 = ", momentum: 0.99, momentum_schedule: cosine"
PREDICTOR = "model.predictor={widths: [256, 128], batch_norm: hidden}"
SHIFT = "objective: fmicl, shift: row, negatives: both"
WAYS = ("simclr", "moco-v2", "moco-v3")


def _of_way(way: str, also: str) -> dict[str, tuple[str, str]]:
    """Return arm -> its two settings, for InfoNCE (NT-Xent where both views meet) against KL and JS."""
    first = "objective: ntxent" if way == "simclr" else "objective: infonce"
    arms = {reference(way): (f"{{{first}, temperature: 0.2{also}}}", f"{{{first}, temperature: 0.5{also}}}")}
    return arms | {f"{way}-fmicl-{of}": _gaussian(of, 0.4472, 0.7071, also) for of in ("kl", "js")}


def _gaussian(divergence: str, narrow: float, wide: float, also: str = "") -> tuple[str, str]:
    kernel = f"{{{SHIFT}, divergence: {divergence}, sigma: "
    return f"{kernel}{narrow}{also}}}", f"{kernel}{wide}{also}}}"


def reference(way: str) -> str:
    """Return the arm of InfoNCE under a method."""
    return f"{way}-infonce"


def overrides(arm: str, loss: str) -> list[str]:
    """Return what an arm's setting changes in the recipe."""
    return [f"loss={loss}", *([PREDICTOR] if arm.startswith("moco-v3") else [])]


ARMS: dict[str, tuple[str, str]] = {
    **_of_way("simclr", ""),
    "simclr-fmicl-pearson": _gaussian("pearson", 0.7071, 1.0),
    "simclr-fmicl-vlc": _gaussian("vlc", 0.7071, 1.0),
    "simclr-fmicl-kl-cosine": (
        f"{{{SHIFT}, divergence: kl, kernel: cosine-critic, temperature: 0.2}}",
        f"{{{SHIFT}, divergence: kl, kernel: cosine-critic, temperature: 1.0}}",
    ),
    "simclr-kernel-infonce": (
        "{objective: kernel-infonce, kernel: laplacian, temperature: 0.2}",
        "{objective: kernel-infonce, kernel: laplacian, temperature: 0.5}",
    ),
    "simclr-au": ("{objective: alignment-uniformity, t: 2}", "{objective: alignment-uniformity, t: 1}"),
    **_of_way("moco-v2", MOCO_V2),
    **_of_way("moco-v3", MOCO_V3),
}
PILOT = (reference("simclr"), "simclr-fmicl-js")
MARGIN = 1.0
"""Points by which an accuracy may be lower and still be on a par."""
CLAIMS: dict[str, tuple[float, list[tuple[str, str]]]] = {
    "Gaussian above cosine similarity": (0.0, [("simclr-fmicl-kl", "simclr-fmicl-kl-cosine")]),
    f"f-MICL at least on a par with InfoNCE, within {MARGIN:g} point": (
        MARGIN,
        [(f"{way}-fmicl-{divergence}", reference(way)) for way in WAYS for divergence in ("kl", "js")],
    ),
}
"""Claim -> by how much the first of each two arms may be below the second where it holds."""
BEST_DIFFERS = [(f"{way}-fmicl-kl", f"{way}-fmicl-js") for way in WAYS]
"""Two divergences under each method, of which another is the better one if the best divergence differs."""
