"""Files of texts and training data: formats, sources, streams, samples, groups, held-out shares, mined negatives.

:mod:`~fmicl_text.data.formats` has the one table of formats; :mod:`~fmicl_text.data.sources` makes a data set of what a
recipe's ``data:`` section names, and :mod:`~fmicl_text.data.mixture` has the section of several sources. May import
``encoders``, which is on the same layer, and what is below: ``losses``, ``core`` and the modules at the root. Importing
a module here imports no torch, but for streams.
"""
