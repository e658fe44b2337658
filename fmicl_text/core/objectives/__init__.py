"""One module a paper: its equation, from kernels, pairs and reductions."""
