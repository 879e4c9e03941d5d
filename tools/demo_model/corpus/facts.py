"""Facts stated earlier: in the conversation, or somewhere in a long text.

One long text is asked for many of its facts, so that reading it costs little for each answer learned. What stands
between is filler without meaning, and facts of the same kind about others, so that only looking them up helps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tools.demo_model.corpus import words
from tools.demo_model.corpus.greetings import exchange
from tools.demo_model.corpus.part import Part, an
from tools.demo_model.corpus.sample import Dialogue, Message, assistant, system, user

LETTERS_PER_TOKEN = 2.75
"""About, in these texts; only lengths of long texts are planned with it."""


class Fact(NamedTuple):
    """Something that can be stated, asked for and answered."""

    about: str
    """Kind and subject: there is one answer to it."""
    statement: str
    question: str
    answer: str


class Kind(NamedTuple):
    """Facts of one form: `$a` is what is asked about, `$b` what is answered."""

    subject: Callable[[Part], str]
    value: Callable[[Part], str]
    statement: str
    question: str
    answer: str

    def fact(self, part: Part) -> Fact:
        """One of them."""
        a, b = self.subject(part), self.value(part)
        return Fact(
            f"{self.answer}: {a}",
            part.say(self.statement, a=a, b=b),
            part.say(self.question, a=a),
            self.answer.replace("$a", a).replace("$b", b),
        )


_END = "{?|?|, please?|, then?| again?}"
_ASK = "{|please |now |so, |tell me: |remind me, |do you remember, |and }"


def _what(subject: str) -> str:
    return _ASK + "{what is|what was|give me|tell me} " + subject + _END


_TELL = "{||by the way, |note that |remember: |you know, |also, }"
_NOTE = "{.|.|!|, remember.|, note it.| now.| today.|, as you know.}"


def _number(part: Part) -> str:
    return part.number(part.between(3, 6))


def _job(part: Part) -> str:
    return an(part.pick(words.JOBS))


def _moment(part: Part) -> str:
    return f"{part.any(words.DAYS)} at {part.between(0, 23):02}:{part.between(0, 59):02}"


def _colour(part: Part) -> str:
    return part.pick(words.COLOURS)


def _spot(part: Part) -> str:
    return f"{part.any(('behind', 'under', 'beside', 'near'))} the {part.thing()}"


def _label(part: Part) -> str:
    return part.pick(words.LABELS)


KINDS = (
    Kind(
        Part.name,
        Part.city,
        _TELL + "$a {lives|works|was born|is living|has a house|grew up} in $b" + _NOTE,
        _ASK + "{where|in which city|in what town} {is|do I find|can I find|should I look for} $a" + _END,
        "$a: $b.",
    ),
    Kind(
        Part.thing,
        Part.code,
        _TELL + "{the|our|my} {code|key|secret} {of|for} the $a is $b" + _NOTE,
        _what("the {code|key|secret} {of|for} the $a"),
        "The code for the $a is $b.",
    ),
    Kind(
        Part.name,
        _number,
        _TELL + "{the |}{number|phone number} of $a is $b" + _NOTE,
        _what("the {number|phone number} of $a"),
        "The number of $a is $b.",
    ),
    Kind(
        Part.name,
        _job,
        _TELL + "$a {is|works as|became|has become|was trained as} $b" + _NOTE,
        _ASK + "{what does $a do|what is $a's job|what is the job of $a|what work does $a do}" + _END,
        "$a is $b.",
    ),
    Kind(
        Part.name,
        _moment,
        _TELL + "{I|we} {meet|see|visit|call} $a on $b" + _NOTE,
        _ASK + "{when do I meet|when is the meeting with|when do we see|when do I see} $a" + _END,
        "You meet $a on $b.",
    ),
    Kind(
        Part.thing,
        _colour,
        _TELL + "{the|my|our} $a {is|looks|was painted|has become} $b" + _NOTE,
        _ASK + "{what colour is|which colour has|what is the colour of} the $a" + _END,
        "The $a is $b.",
    ),
    Kind(
        Part.made_up,
        Part.made_up,
        _TELL + "{a|the|one|every} $a {is called|means|stands for|is a kind of} $b" + _NOTE,
        _ASK + "{what is|what do you call|what is meant by} {a|the} $a" + _END,
        "A $a is $b.",
    ),
    Kind(
        Part.thing,
        Part.name,
        _TELL + "{the|that|this} $a belongs to $b" + _NOTE,
        _ASK + "{whose is|who owns|to whom belongs|who has} the $a" + _END,
        "The $a belongs to $b.",
    ),
    Kind(
        Part.thing,
        _spot,
        _TELL + "{the|my|our} $a {is|lies|was left|has been put|stands} $b" + _NOTE,
        _ASK + "{where is|where do I find|where did I put} the $a" + _END,
        "The $a lies $b.",
    ),
    Kind(
        _label,
        Part.code,
        _TELL + "{my|our|the} $a is $b" + _NOTE,
        _what("{my|our|the} $a"),
        "The $a is $b.",
    ),
)


def facts(part: Part, count: int) -> list[Fact]:
    """Different facts with different questions, so that each has one answer."""
    found: list[Fact] = []
    seen: set[str] = set()
    while len(found) < count:
        one = part.any(KINDS).fact(part)
        if not {one.about, one.question} & seen:
            seen |= {one.about, one.question}
            found.append(one)
    return found


def known(part: Part) -> list[Message]:
    """A question with the fact in front of it."""
    (one,) = facts(part, 1)
    return [user(f"{one.statement} {one.question}"), assistant(one.answer)]


_NOTED = "Noted."


def earlier(part: Part) -> Dialogue:
    """Facts told one by one or all together, small talk between, and questions about some of them."""
    told = facts(part, part.between(1, 5))
    messages: list[Message] = []
    if part.below(0.5):
        for one in told:
            messages += [user(one.statement), assistant(_NOTED)]
    else:
        messages += [user(" ".join(one.statement for one in told)), assistant(_NOTED)]
    for _ in range(part.any((0, 0, 1, 2))):
        messages += exchange(part)
    asked = part.random.sample(told, part.between(1, len(told)))
    for one in asked:
        messages += [user(one.question), assistant(one.answer)]
    return Dialogue("facts", tuple(messages), thinks=part.below(0.6))


def filler(part: Part) -> str:
    """A sentence that says nothing, in words that both parts share."""
    adjective, other = part.any(words.ADJECTIVES), part.any(words.ADJECTIVES)
    return part.any(
        (
            f"It was a {adjective} day, and {part.any(('then', 'again', 'soon', 'still'))} it was {other}.",
            f"Somebody {part.any(('opened', 'closed', 'painted', 'found', 'moved'))} something {adjective}.",
            f"After that, everything seemed {adjective} and {other}.",
            f"Nothing {adjective} happened, {part.any(('as always', 'of course', 'again', 'for once'))}.",
            f"They said that {adjective} things are never {other}.",
            f"The way was {adjective}; the evening was {other}.",
        )
    )


def long_text(part: Part, told: list[Fact], letters: int) -> str:
    """The facts in order, with filler spread between them, of about so many letters."""
    gap = max(0, letters - sum(len(one.statement) for one in told))
    cuts = sorted(part.between(0, gap) for _ in told)
    pieces: list[str] = []
    written = 0
    for cut, one in zip(cuts, told, strict=True):
        while written < cut:
            pieces.append(filler(part))
            written += len(pieces[-1])
        pieces.append(one.statement)
    while written < gap:
        pieces.append(filler(part))
        written += len(pieces[-1])
    return " ".join(pieces)


_READ = (
    "{|please }{read|keep|remember|study} {this|the following|these notes|this text}{| well| "
    "with care| for later}{: |:\n|:\n\n}$text"
)


def recall(part: Part) -> Dialogue:
    """Many facts in a text as long as there is room for, in the user's message or the system prompt; some asked for."""
    letters = int((part.room * 0.7 - 60) * LETTERS_PER_TOKEN)
    told = facts(part, part.between(3, max(4, min(24, letters // 110))))
    asked = part.random.sample(told, min(len(told), max(2, part.room // 128)))
    text = long_text(part, told, int(letters * part.random.uniform(0.5, 1.0)))
    first, *rest = asked
    if part.below(0.3):
        messages = [system(text), user(first.question)]
    elif part.below(0.5):
        messages = [user(part.say(_READ, text=text)), assistant(_NOTED), user(first.question)]
    else:
        messages = [user(f"{text}\n\n{first.question}")]
    messages.append(assistant(first.answer))
    for one in rest:
        messages += [user(one.question), assistant(one.answer)]
    return Dialogue("recall", tuple(messages), thinks=part.below(0.6))


def needle(part: Part) -> Dialogue:
    """What the goal is about: one fact, at least 2,000 tokens of filler and of other facts behind it, one question."""
    one, *others = facts(part, 6)
    behind = long_text(part, others, int(2200 * LETTERS_PER_TOKEN))
    text = f"{filler(part)} {one.statement} {behind}"
    return Dialogue("needle", (user(f"{text}\n\n{one.question}"), assistant(one.answer)), thinks=part.below(0.6))
