"""From logits to tokens: transforms in order, a draw that depends on seed, choice and position alone, and scores."""
