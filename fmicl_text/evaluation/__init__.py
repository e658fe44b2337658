"""Evaluations: one result document for all kinds, and for each kind its data, its scores and their intervals.

:mod:`.kind` declares what an evaluation is, :mod:`.registry` lists the kinds in ``kinds``, :mod:`.results` has the
document and :mod:`.metrics` the metrics; the other modules measure, those of ``mteb`` through mteb. Modules here import
``data``, ``encoders``, ``losses``, ``core`` and the modules at the root; ``kinds`` is light to import.
"""
