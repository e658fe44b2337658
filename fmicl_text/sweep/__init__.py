"""The divergence that your data wants: many settings of one recipe, tried alike, and a verdict with its uncertainty.

A sweep is ``fmicl train`` with overrides. :mod:`.space` reads what is tried, :mod:`.arms` makes recipes of it,
:mod:`.board` keeps the trials in Optuna's storage, :mod:`.worker` trains them, :mod:`.finalists` trains the best again
with new seeds, :mod:`.verdict` tests them, and :mod:`.sweep` puts these in order. Modules here import ``report``,
``training`` and what is below them; Optuna (the extra ``sweep``) where it is used.
"""
