"""Training data and files of texts: formats, sources, streams, samples, and what may be trained on."""
