"""Choosing a rule's threshold on a cached run of held-out data."""
