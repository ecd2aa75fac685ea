"""Studies and proofs: the only place that names concrete values."""
