"""A-InfoNCE, asymmetric InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Paper, Share

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Yu et al., ECCV 2022",
    arxiv="2207.08374",
    bibtex="""
@inproceedings{yu2022adversarial,
    title = {Adversarial Contrastive Learning via Asymmetric {InfoNCE}},
    author = {Qiying Yu and Jieming Lou and Xianyuan Zhan and Qizhang Li and Wangmeng Zuo and Yang Liu
        and Jingjing Liu},
    year = {2022},
    booktitle = {European Conference on Computer Vision},
    eprint = {2207.08374},
    archivePrefix = {arXiv},
}
""",
)


class AsymmetricInfoNCE(Objective):
    """InfoNCE between clean anchors and noisy positives, whose gradients are split unevenly between them."""

    loss_name = "AsymmetricInfoNCELoss"
    paper = PAPER
    formula = "InfoNCE with `a<x, sg y> + (1-a)<sg x, y>` for `s`"
    needs = "clean anchors, noisy positives"
    when = "back-translations, adversarial views"

    objective: Literal["asymmetric-infonce"] = "asymmetric-infonce"
    """Which objective."""
    temperature: PositiveFloat = 0.5
    """``tau``, which divides the cosine; the paper's 0.5."""
    degree: Share = 0.2
    """Share of the gradient that moves the anchors; the rest moves the positives."""
    learn_kernel: bool = False
    """Whether the temperature is learned; it starts at the value given."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import CosineKernel

        return {"kernel": CosineKernel(self.temperature, self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.asymmetric_infonce`."""
        from fmicl_text.core import asymmetric_infonce

        return asymmetric_infonce(x, y, degree=self.degree, **parts_and_batch)
