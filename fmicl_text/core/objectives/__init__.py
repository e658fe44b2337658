"""One module a paper: its equation, from kernels, pairs and reductions.

Every objective is called as :class:`fmicl_text.core.batch.Objective` says, and returns the terms ``positive`` and
``negative``, whose sum is the loss.
"""
