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
_REQUEST = (
    "{|please |can you |could you |now }{tell|write} {me |us |}{a|a short|a little|a nice|one} story about "
    "$who {and|with|meeting} $other{.|!|, please.|}"
)
_VERSE = (
    "{|please |can you |could you |now }{write|give|compose|make} {me |us |}{a|a short|a little|a nice|one} haiku "
    "{about|on} $who{.|!|, please.|}"
)


def story(part: Part) -> Dialogue:
    """Three or four sentences about two animals."""
    who, other = part.several(2, lambda: part.pick(words.ANIMALS))
    need, help_ = part.any(_NEEDS)
    adjective = part.any(words.ADJECTIVES)
    text = (
        f"{part.any(_TIMES)} {an(adjective)} {who} lived {part.any(_PLACES)}. One evening the {who} met "
        f"{an(other)} that {need}. The {who} {help_}. {part.any(_ENDS)}"
    )
    request = part.say(_REQUEST, who=an(who), other=an(other))
    return Dialogue(
        "story", (user(request), assistant(text)), check="mentions", thinks=part.below(0.6), mentions=(who, other)
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
