"""Sentence encoders: loading them, what identifies their state, their tokens, and the refusal of weights in pickles.

May import ``data``, which is on the same layer, and what is below: ``losses``, ``core`` and the modules at the root.
"""
