"""The objectives: one module each, named after its function, with the equation of its paper.

Every objective is called as :class:`fmicl_text.core.batch.Objective` says, and returns the terms ``positive`` and
``negative``, whose sum is the loss. :mod:`fmicl_text.core` exports a new module here by itself. Modules here import
``core`` and torch only.
"""
