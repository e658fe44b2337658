"""Tasks and benchmarks of mteb, and a user's own tasks in its way."""
