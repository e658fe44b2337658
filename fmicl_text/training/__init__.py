"""From a recipe to a run folder: building, training, checkpoints, and what a run measures."""
