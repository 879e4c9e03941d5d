"""The KV cache: its blocks and their names (no torch), its tensors and their size."""
