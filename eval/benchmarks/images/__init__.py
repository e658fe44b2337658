"""Compare objectives on images under SimCLR, MoCo v2 and MoCo v3: tune each a little, train with every seed, report.

    python -m eval.benchmarks.images --data DATA --pilot
    python -m eval.benchmarks.images --data DATA

``DATA`` is a folder with ``cifar10_train.parquet`` and ``cifar10_test.parquet``. Each arm (``arms``) has two settings;
that of the better kNN on 2,000 further training images, with seed 0, is trained with seeds 1, 2 and 3 and measured once
on the test images. ``--pilot`` runs two arms alone, which shows whether the size can tell objectives apart. What was
measured is kept beside the runs and not done again, so an interrupted study goes on where it stopped. ``report`` writes
``eval/results/images.json``, ``.md`` and ``.png`` of the arms that have all seeds.
"""
