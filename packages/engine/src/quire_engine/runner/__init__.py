"""Runners compute batches: pack, model, sample."""
