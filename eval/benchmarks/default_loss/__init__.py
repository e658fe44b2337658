"""Which loss should be the default: short fine-tuning runs on many kinds of jobs, one setting of each loss for all.

    python -m eval.benchmarks.default_loss run --data DATA --models MODELS
    python -m eval.benchmarks.default_loss report

A job is a training set with held-out queries (``jobs``), a start is an encoder (``starts``), an objective is a loss
with its settings (``objectives``). ``runs`` trains every combination with every seed and appends what it scored to a
file; ``report`` compares the objectives. Half of the jobs are for choosing a default, the other half for judging it,
and of each job a development part is for choosing and a test part for judging.
"""
