"""Sentence encoders: loading them, their revisions, and the refusal of weights in pickles."""
