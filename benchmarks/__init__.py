"""Benchmarks: each beside its floor or its peers, in the same run."""
