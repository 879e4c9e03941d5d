"""Holding answers to their form below the line: a guide for each sequence, fed ids. No torch and no device."""
