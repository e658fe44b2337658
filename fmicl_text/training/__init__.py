"""From a recipe to a run folder: building, training, checkpoints, resuming, and the evaluation of a run's models.

:mod:`.train` runs a recipe, from :mod:`.inputs` (what it reads) and :mod:`.build` (what trains) to :mod:`.measure` and
:mod:`.results`; :mod:`.plan` only says what would run. :mod:`.trainer` is sentence-transformers' trainer with sealed
:mod:`.checkpoints`. Modules here import ``hub``, ``runs``, ``recipe`` and what is below them.
"""
