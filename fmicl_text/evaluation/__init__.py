"""What a model is worth: suites, STS, retrieval, statistics."""
