"""The parts of ``eval/benchmarks/gpu_check.py``, one module each, with ``run(device, budget, found)``.

They may import torch, transformers, sentence-transformers and ``fmicl_text``; what a part needs beyond these is named
in ``gpu_check.PARTS``.
"""
