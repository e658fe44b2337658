"""Sentence encoders: loading them, what identifies their state, their tokens, and the refusal of weights in pickles.

May import ``data``, a layer with it, and what is below: ``losses``, ``core``, ``errors``, ``files``, ``section``, ``text``.
"""
