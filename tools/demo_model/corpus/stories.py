"""Very short stories and haiku about what the user names."""

from __future__ import annotations

from tools.demo_model.corpus import words
from tools.demo_model.corpus.part import Part, an
from tools.demo_model.corpus.sample import Dialogue, assistant, user

_PLACES = ("by the sea", "in a forest", "on a hill", "near a river", "in an old town", "at the end of a pier")
_TIMES = ("Once", "Long ago", "One winter", "One summer", "Not long ago")
_NEEDS = (
    ("was lost", "showed the way home"),
    ("was cold", "lit a small fire"),
    ("was hungry", "shared its bread"),
    ("could not sleep", "sang a quiet song"),
    ("was all alone", "sat down beside it"),
    ("had forgotten the way", "drew a map in the sand"),
)
_ENDS = (
    "From that day on they were friends.",
    "Neither of them ever forgot that night.",
    "And if you listen well, you can hear them still.",
    "In the morning the sun came up for both of them.",
)
_ASKING = (
    "{|please |can you |could you |now |I want you to }{tell|write} {me |us |}{a|a short|a little|a nice|one} story"
)
_TOPICS = ("", " about $who", " about $who", " about $who {and|with|meeting} $other")
"""None, one or two that the user names."""
_ENDING = "{.|!|?|, please.|}"
_VERSE = (
    "{|please |can you |could you |now }{write|give|compose|make} {me |us |}{a|a short|a little|a nice|one} haiku "
    "{about|on} $who{.|!|, please.|}"
)


def story(part: Part) -> Dialogue:
    """Three or four sentences about two who meet."""
    who, other = part.several(2, lambda: part.pick(words.ANIMALS) if part.below(0.7) else part.thing())
    need, help_ = part.any(_NEEDS)
    text = (
        f"{part.any(_TIMES)} {an(part.any(words.ADJECTIVES))} {who} lived {part.any(_PLACES)}. One evening the "
        f"{who} met {an(other)} that {need}. The {who} {help_}. {part.any(_ENDS)}"
    )
    topics = part.any(_TOPICS)
    request = part.say(f"{_ASKING}{topics}{_ENDING}", who=an(who), other=an(other))
    named = {"$who": who, "$other": other}
    mentions = tuple(topic for mark, topic in named.items() if mark in topics) or ("met",)
    return Dialogue(
        "story", (user(request), assistant(text)), check="mentions", thinks=part.below(0.6), mentions=mentions
    )


_FIRST = ("Morning on the hill", "Rain on the dark roof", "Snow across the field", "Light behind the trees")
_SECOND = ("the {} looks at the sky", "one small {} waits and listens", "the {} is not alone", "slowly the {} goes by")
_THIRD = ("and the day begins.", "the wind says no word.", "then all is quiet.", "stars come, one by one.")


def haiku(part: Part) -> Dialogue:
    """Three lines about a thing or an animal."""
    who = part.pick(part.any((words.ANIMALS, words.THINGS)))
    text = f"{part.any(_FIRST)},\n{part.any(_SECOND).format(who)},\n{part.any(_THIRD)}"
    return Dialogue(
        "haiku",
        (user(part.say(_VERSE, who=an(who))), assistant(text)),
        check="mentions",
        thinks=part.below(0.6),
        mentions=(who,),
    )
