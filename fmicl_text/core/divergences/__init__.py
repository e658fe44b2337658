"""The f-divergences, one file each, found by its name: ``kl.py`` holds the divergence ``"kl"`` as ``DIVERGENCE``.

What a divergence consists of is said in :mod:`fmicl_text.core.divergence`. Modules here import that and torch.
"""
