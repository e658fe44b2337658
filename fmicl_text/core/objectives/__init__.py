"""The objectives: one module each, of the name of its function, and its paper's equation in it.

Every objective is called as :class:`fmicl_text.core.batch.Objective` says, and returns the terms ``positive`` and
``negative``, whose sum is the loss. A new module here is exported by :mod:`fmicl_text.core` without further ado.
"""
