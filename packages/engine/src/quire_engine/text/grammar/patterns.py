"""Regular expressions and grammars of requests, as the library reads them. It knows what that cannot match."""

from __future__ import annotations

import re

import llguidance
from llguidance.gbnf_to_lark import any_to_lark

from quire_engine.errors import GrammarError

MAX_PATTERN = 100_000
"""Characters of a regular expression."""
MAX_RULES = 400
"""Rules of a grammar: the library follows them into one another."""
MAX_INTERSECTIONS = 3
"""Uses of Lark's `&` in a grammar: the library makes one automaton of what is to hold at once."""

_LITERALS = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/')


def as_terminal(pattern: str) -> str:
    """A regular expression that is matched as a whole, as a terminal. GrammarError for one that cannot be matched."""
    if len(pattern) > MAX_PATTERN:
        raise GrammarError(f"The regular expression has {len(pattern)} characters; {MAX_PATTERN} is the most.")
    check_unicode(pattern, "The regular expression")
    if not pattern:
        return '""'
    if problem := _problem(llguidance.LLMatcher.grammar_from_regex(pattern)):
        raise GrammarError(f"The regular expression cannot be used: {problem}.")
    return f"/{llguidance.regex_to_lark(pattern, use_ascii='')}/"


def as_lark(grammar: str) -> str:
    """A grammar in EBNF (GBNF, as llama.cpp has it) or Lark as Lark. GrammarError, with the place, for others."""
    check_unicode(grammar, "The grammar")
    try:
        lark = any_to_lark(grammar)
    except Exception as error:  # the converter raises nothing more precise
        raise GrammarError(f"The grammar cannot be read as EBNF: {error}.") from error
    _check_bounds(lark)
    if problem := _problem(llguidance.LLMatcher.grammar_from_lark(lark)):
        raise GrammarError(f"The grammar cannot be used: {problem}.")
    return lark


def check_unicode(text: str, name: str) -> None:
    """GrammarError for what is no Unicode, called by this name."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise GrammarError(f"{name} has half of a surrogate pair ({code}), which is no character.") from error


def _check_bounds(lark: str) -> None:
    """GrammarError for what the library would take too long or too deep a look at."""
    bare = _LITERALS.sub("", lark)
    if (rules := sum(":" in line for line in bare.splitlines())) > MAX_RULES:
        raise GrammarError(f"The grammar has {rules} rules; {MAX_RULES} is the most. Write out those used once.")
    if (intersections := bare.count("&")) > MAX_INTERSECTIONS:
        problem = f"The grammar uses & {intersections} times; {MAX_INTERSECTIONS} is the most."
        raise GrammarError(f"{problem} Write one regular expression for what is to hold at once.")
    if "%json" in bare:
        raise GrammarError("A grammar cannot hold a JSON Schema (%json): use json, or structural_tag for a part.")


def _problem(grammar: str) -> str:
    """What the library says against a grammar, without its picture of the place; nothing, if it says nothing."""
    lines = [line.strip() for line in llguidance.LLMatcher.validate_grammar(grammar).splitlines()]
    told = [line for line in lines if line and not line.startswith("^") and " | " not in line[:6]]
    return "; ".join([*told[:1], *(line for line in told[1:] if line.startswith("error: "))])[:300].rstrip(".:")
