"""What the sampling parameters mean, one row and one token at a time: slow, and obviously right."""

from __future__ import annotations

import math
from collections import Counter

from quire_engine.sequence import Sequence

EXCLUDED = float("-inf")


def processed(row: list[float], sequence: Sequence, eos_token_ids: tuple[int, ...] = ()) -> list[float]:
    """The logits that a greedy choice looks at."""
    params, logits = sequence.params, list(row)
    output = sequence.tokens[sequence.prompt_length :]
    if params.allowed_token_ids is not None:
        logits = [logit if token in params.allowed_token_ids else EXCLUDED for token, logit in enumerate(logits)]
    for word in params.bad_words_token_ids:
        prefix = list(word[:-1])
        if output[len(output) - len(prefix) :] == prefix:
            logits[word[-1]] = EXCLUDED
    if len(output) < params.min_tokens:
        for token in {*eos_token_ids, *params.stop_token_ids}:
            logits[token] = EXCLUDED
    for token, bias in (params.logit_bias or {}).items():
        logits[token] += bias
    for token in set(sequence.tokens[sequence.prompt_length if sequence.embeds else 0 :]):
        by = params.repetition_penalty
        logits[token] = logits[token] / by if logits[token] > 0 else logits[token] * by
    for token, count in Counter(output).items():
        logits[token] -= params.presence_penalty + count * params.frequency_penalty
    return logits


def distribution(row: list[float], sequence: Sequence, eos_token_ids: tuple[int, ...] = ()) -> list[float]:
    """The probability of each token."""
    params = sequence.params
    logits = processed(row, sequence, eos_token_ids)
    if params.greedy:
        best = max(logits)
        return [float(token == logits.index(best)) for token in range(len(logits))]
    logits = [logit / params.temperature for logit in logits]
    least = max(logits) + math.log(params.min_p) if params.min_p > 0 else EXCLUDED
    logits = [logit if logit >= least else EXCLUDED for logit in logits]
    if params.top_k > 0:
        least = sorted(logits, reverse=True)[min(params.top_k, len(logits)) - 1]
        logits = [logit if logit >= least else EXCLUDED for logit in logits]
    if params.top_p < 1:
        logits = _nucleus(logits, params.top_p)
    return softmax(logits)


def softmax(logits: list[float]) -> list[float]:
    """Probabilities from logits."""
    best = max(logits)
    weights = [math.exp(logit - best) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


def _nucleus(logits: list[float], top_p: float) -> list[float]:
    probabilities = softmax(logits)
    mass, kept = 0.0, set()
    for token in sorted(range(len(logits)), key=lambda token: -logits[token]):
        if mass >= top_p:
            break
        kept.add(token)
        mass += probabilities[token]
    return [logit if token in kept else EXCLUDED for token, logit in enumerate(logits)]
