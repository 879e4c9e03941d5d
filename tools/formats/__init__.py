"""Tool formats beside the parsers of an installed vLLM: the same answers, read by both."""
