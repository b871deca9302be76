"""What is measured: passes over splits, evaluations, comparisons, benchmarks, and their reports."""
