"""Models that the CPU library computes whole: described by their configuration, proven against transformers once."""
