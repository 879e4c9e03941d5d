"""Planning: which spans are computed next, on which blocks, and when a sequence has ended. No torch."""
