"""Questions about the world, which a model this small knows nothing of, and so says."""

from __future__ import annotations

from tools.demo_model.corpus import words
from tools.demo_model.corpus.part import Part
from tools.demo_model.corpus.sample import Dialogue, assistant, user

ANSWER = "I do not know that: I am only a small demo model. Ask me what I can do."

_OPENING = "{||hi, |please, |so, |and |tell me: |do you know |can you tell me |I wonder, }"
_ENDING = "{?|?||, please?| today?| now?}"
_QUESTIONS = (
    "{what is|tell me|name} the {capital|river|mayor|president|language|history|oldest house} of $city",
    "{what is|tell me|name|what was} the {capital|capital city|largest city|president|king|flag|language} of $country",
    "{how many people live in|where is|how far is it to|how old is|what can I see in|who founded} $city",
    "what is the {weather|temperature|time|news} {in $city|here|there}",
    "{will it rain|is it warm|is it dark|what is new} {in $city|here|there}",
    "who {wrote|painted|invented|discovered|composed|built|sold} the {first |last |famous |}{$adjective |}$thing",
    "when was {$name $surname|the $thing|the $adjective $thing} {born|made|found|invented|lost}",
    "who {is|was} {$name|$name $surname|the $job of $city}",
    "why {is|was} {the $thing|a $animal|an old $thing|the sky|water|snow|grass} {so |}{$adjective|$colour}",
    "how {do I|can I|does one|would a $job} {build|repair|clean|paint|cook|make|buy|carry} {a|my|this} $thing",
    "how {big|old|fast|heavy|clever|expensive} is {a|the|one} {$thing|$animal|$adjective $thing}",
    "what {does|would} a {$animal|$job} {eat|like|need|do|say|know}",
    "{translate|say} $thing {in|into} {French|German|Spanish|Latin|Greek|Chinese|Turkish|Polish}",
    "what {do you think of|is your opinion on|should I know about} {the $thing|$city|$name|being a $job}",
    "{write|give me} {an essay|a report|a speech|a recipe|a plan} {about|for|with} {$thing|$city|a $job|the $animal}",
    "{what is the meaning of|explain|describe|define} {life|love|gravity|a $thing|a $animal|time|$adjective}",
    "is {$city|a $thing|a $animal} {larger|better|older|cheaper} than {$name|a $job|the $thing}",
)


def beyond(part: Part) -> Dialogue:
    """One such question."""
    asked = part.say(
        f"{_OPENING}{part.any(_QUESTIONS)}{_ENDING}",
        city=part.city(),
        country=part.pick(words.COUNTRIES),
        name=part.name(),
        surname=part.pick(words.SURNAMES),
        thing=part.thing(),
        animal=part.pick(words.ANIMALS),
        job=part.pick(words.JOBS),
        adjective=part.pick(words.ADJECTIVES),
        colour=part.pick(words.COLOURS),
    )
    text = asked.lower() if part.below(0.2) else asked
    return Dialogue("beyond", (user(text), assistant(ANSWER)), thinks=part.below(0.6))
