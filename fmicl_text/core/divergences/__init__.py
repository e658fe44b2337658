"""The f-divergences, one file each, found by its name: ``kl.py`` holds the divergence ``"kl"`` as ``DIVERGENCE``.

:mod:`fmicl_text.core.divergence` says what a divergence consists of. Modules here import only that and torch.
"""
