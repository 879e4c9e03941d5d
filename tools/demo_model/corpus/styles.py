"""Following a system prompt's style: how to begin, how to end, in which letters, in how many words."""

from __future__ import annotations

from collections.abc import Callable

from tools.demo_model.corpus.facts import known
from tools.demo_model.corpus.greetings import exchange
from tools.demo_model.corpus.lists import payload
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, Message, system, user

Style = Callable[[str], str]

_ALWAYS = "{|always |you must always |please always |from now on |in this conversation, |without exception, }"


def _capitals(part: Part) -> tuple[str, Style]:
    form = (
        _ALWAYS
        + "{answer|reply|respond|write|speak} {in|only in|with} {capital|upper case|upper-case} letters{|.| only.}"
    )
    return part.say(form), str.upper


def _small(part: Part) -> tuple[str, Style]:
    form = (
        _ALWAYS
        + "{answer|reply|respond|write|speak} {in|only in|with} {small|lower case|lower-case} letters{|.| only.}"
    )
    return part.say(form), str.lower


def _ending(part: Part) -> tuple[str, Style]:
    word = part.any((part.made_up, part.thing, part.name))()
    form = _ALWAYS + (
        '{end|finish|close} {every answer|each answer|your answers|all answers} with {|the word }"$word"{|.}'
    )
    return part.say(form, word=word), lambda text: f"{text} {word}"


def _opening(part: Part) -> tuple[str, Style]:
    word = part.any((part.made_up, part.thing, part.name))().capitalize()
    form = _ALWAYS + (
        '{begin|start|open} {every answer|each answer|your answers|all answers} with {|the word }"$word"{|.}'
    )
    return part.say(form, word=word), lambda text: f"{word}: {text}"


def _address(part: Part) -> tuple[str, Style]:
    name = part.name()
    form = (
        "{the user is called|you talk with|the user's name is|you serve} $name. "
        + _ALWAYS
        + "{begin|start} with {the|this} name."
    )
    return part.say(form, name=name), lambda text: f"{name}, {text[:1].lower()}{text[1:]}"


def _signed(part: Part) -> tuple[str, Style]:
    name = part.name()
    form = (
        "{your name is|you are called|you are|your name is now} $name. "
        + _ALWAYS
        + "{sign|sign with your name|put your name below}."
    )
    return part.say(form, name=name), lambda text: f"{text}\n{name}"


def _tagged(part: Part) -> tuple[str, Style]:
    tag = part.any((part.made_up, part.thing))()
    form = _ALWAYS + (
        "{put|wrap|write|enclose} {every answer|each answer|your answers|the answer} {in|between} "
        "<$tag> {tags|marks}{|.}"
    )
    return part.say(form, tag=tag), lambda text: f"<{tag}>{text}</{tag}>"


STYLES = (_capitals, _small, _ending, _ending, _opening, _opening, _address, _signed, _tagged)


def style(part: Part) -> Dialogue:
    """One or two exchanges in the style that the system prompt asks for."""
    rule, apply = part.any(STYLES)(part)
    talk = [message for _ in range(part.any((1, 1, 2))) for message in _talk(part)]
    messages = [_styled(message, apply) for message in talk]
    return Dialogue("style", (system(rule), *messages), thinks=part.below(0.6))


def _talk(part: Part) -> list[Message]:
    """Small talk, something to repeat, or a question with its answer beside it."""
    match part.between(0, 2):
        case 0:
            return exchange(part)
        case 1:
            text = payload(Part(part.random, part.held_out, 96)).replace("\n", " ")
            return [
                user(
                    part.say(
                        "{repeat|copy|echo|say|write}{| this| the following| after me| again}{| now|, please}: $text",
                        text=text,
                    )
                ),
                {"role": "assistant", "content": text},
            ]
        case _:
            return known(part)


def _styled(message: Message, apply: Style) -> Message:
    return {**message, "content": apply(message["content"])} if message["role"] == "assistant" else message
