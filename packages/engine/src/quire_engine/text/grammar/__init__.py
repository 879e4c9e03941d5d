"""Grammars of answers: how they are written, what of JSON Schema they can hold, and how they are checked."""
