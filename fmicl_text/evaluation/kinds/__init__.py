"""What recipes and ``fmicl eval`` know of each kind of evaluation: one light module per kind.

A module declares the names and options of its kind, and imports what measures it only when it is loaded. A new kind is
one module here, listed in :mod:`fmicl_text.evaluation.registry`.
"""
