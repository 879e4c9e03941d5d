"""One file per API: what the engine delivers becomes chunks, and a whole answer is the fold of the same chunks.

Nothing here knows HTTP. A reply is fed deliveries and yields chunks; routes decide how they leave.
"""
