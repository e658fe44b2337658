"""One declaration a paper: its objective's settings, and how they become the terms of :mod:`fmicl_text.core`.

Importing these files imports no torch. They may import the declarations' base, :mod:`fmicl_text.losses.objective`, and
inside functions :mod:`fmicl_text.core`. A new file here is a new objective; nothing else lists them.
"""
