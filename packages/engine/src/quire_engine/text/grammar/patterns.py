"""Regular expressions and grammars of requests, as the library reads them. It knows what that cannot match."""

from __future__ import annotations

import llguidance
from llguidance.gbnf_to_lark import any_to_lark

from quire_engine.errors import GrammarError

MAX_PATTERN = 100_000
"""Characters of a regular expression."""


def as_terminal(pattern: str) -> str:
    """A regular expression that is matched as a whole, as a terminal. GrammarError for one that cannot be matched."""
    if len(pattern) > MAX_PATTERN:
        raise GrammarError(f"The regular expression has {len(pattern)} characters; {MAX_PATTERN} is the most.")
    if not pattern:
        return '""'
    if problem := _problem(llguidance.LLMatcher.grammar_from_regex(pattern)):
        raise GrammarError(f"The regular expression cannot be used: {problem}.")
    return f"/{llguidance.regex_to_lark(pattern, use_ascii='')}/"


def as_lark(grammar: str) -> str:
    """A grammar in EBNF (GBNF, as llama.cpp has it) or Lark as Lark. GrammarError, with the place, for others."""
    try:
        lark = any_to_lark(grammar)
    except Exception as error:  # the converter raises nothing more precise
        raise GrammarError(f"The grammar cannot be read as EBNF: {error}.") from error
    if problem := _problem(llguidance.LLMatcher.grammar_from_lark(lark)):
        raise GrammarError(f"The grammar cannot be used: {problem}.")
    return lark


def _problem(grammar: str) -> str:
    """What the library says against a grammar, without its picture of the place; nothing, if it says nothing."""
    try:
        problem = llguidance.LLMatcher.validate_grammar(grammar)
    except UnicodeEncodeError:
        return "it has half of a surrogate pair, which is no character"
    lines = [line.strip() for line in problem.splitlines()]
    told = [line for line in lines if line and not line.startswith("^") and " | " not in line[:6]]
    return "; ".join([*told[:1], *(line for line in told[1:] if line.startswith("error: "))])[:300].rstrip(".:")
