"""Regular expressions of requests, as the grammar library reads them. It knows what that library cannot match."""

from __future__ import annotations

import llguidance

from quire_engine.errors import GrammarError


def as_terminal(pattern: str) -> str:
    """A regular expression that is matched as a whole, as a terminal. GrammarError for one that cannot be matched."""
    if not pattern:
        return '""'
    if problem := llguidance.LLMatcher.validate_grammar(llguidance.LLMatcher.grammar_from_regex(pattern)):
        raise GrammarError(f"The regular expression cannot be used: {problem.splitlines()[0]}.")
    return f"/{llguidance.regex_to_lark(pattern, use_ascii='')}/"
