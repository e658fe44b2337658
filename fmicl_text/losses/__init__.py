"""The objectives as sentence-transformers losses, one thin class a paper over :class:`ContrastiveLoss`."""

from fmicl_text.losses.alignment_uniformity import AlignmentUniformityLoss
from fmicl_text.losses.asymmetric_infonce import AsymmetricInfoNCELoss
from fmicl_text.losses.base import ContrastiveLoss, NonFiniteEmbeddings
from fmicl_text.losses.contextual_infonce import ContextualInfoNCELoss
from fmicl_text.losses.dcl import DCLLoss
from fmicl_text.losses.dhel import DHELLoss
from fmicl_text.losses.fmicl import FMICLLoss
from fmicl_text.losses.focal_infonce import FocalInfoNCELoss
from fmicl_text.losses.hcl import HCLLoss
from fmicl_text.losses.infonce import InfoNCELoss
from fmicl_text.losses.kcl import KCLLoss
from fmicl_text.losses.kernel_infonce import KernelInfoNCELoss
from fmicl_text.losses.ntxent import NTXentLoss
from fmicl_text.losses.spectral import SpectralContrastiveLoss

LOSSES: dict[str, type[ContrastiveLoss]] = {
    "fmicl": FMICLLoss,
    "infonce": InfoNCELoss,
    "ntxent": NTXentLoss,
    "alignment-uniformity": AlignmentUniformityLoss,
    "spectral": SpectralContrastiveLoss,
    "kernel-infonce": KernelInfoNCELoss,
    "dhel": DHELLoss,
    "kcl": KCLLoss,
    "dcl": DCLLoss,
    "focal-infonce": FocalInfoNCELoss,
    "hcl": HCLLoss,
    "asymmetric-infonce": AsymmetricInfoNCELoss,
    "contextual-infonce": ContextualInfoNCELoss,
}
"""Name in a recipe -> class."""

__all__ = ["LOSSES", "NonFiniteEmbeddings", "ContrastiveLoss", *(loss.__name__ for loss in LOSSES.values())]
