"""Thresholds that hold for new samples with a stated probability."""
