"""Tasks and benchmarks of mteb, and a user's own tasks, all scored by mteb.

:mod:`.selection` says which tasks, :mod:`.plan` how long they take, :mod:`.run` has mteb run them, :mod:`.result` is
what it found and :mod:`.submission` writes it for mteb's leaderboard; :mod:`.items` and :mod:`.cache` keep what each
item scored; :mod:`.model` wraps an encoder for mteb, and :mod:`.registered` tells which ones mteb itself loads
otherwise; :mod:`.own_suite` and :mod:`.own_tasks` make tasks of a user's files. Modules here import what
:mod:`fmicl_text.evaluation` may, and mteb.
"""
