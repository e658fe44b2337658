"""What a run leaves on disk.

:mod:`.folder` has its layout, :mod:`.manifest` its record, :mod:`.plots` its pictures, :mod:`.exports` what
``fmicl export`` adds. Modules here import ``recipe`` and what is below it. ``training`` writes run folders; ``report``
and ``hub`` read them.
"""
