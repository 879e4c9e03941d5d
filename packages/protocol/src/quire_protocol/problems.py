"""Says what pydantic found wrong in a sentence, at the JSON path where it is; knows no particular schema.

pydantic's own errors name union branches in their path, and report one mistake once per branch. Here a path holds only
steps that the data really has, and branches that failed early are left out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Discriminator, GetCoreSchemaHandler, ValidationError
from pydantic_core import ArgsKwargs, CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError

T = TypeVar("T")
Path = tuple[int | str, ...]

EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "bytes_type": "a string",
    "callable_type": "a callable",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of at most 64 bits",
    "int_type": "an integer",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "mapping_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "none_required": "null",
    "string_too_long": "at most {max_length} long",
    "string_too_short": "at least {min_length} long",
    "string_type": "a string",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
    "union_tag_invalid": "one of {expected_tags}",
    "unknown_tag": "{expected}",
}
"""What a value must be, by pydantic's name of the error: completes "<place> must be …"."""

SENTENCES = {
    "extra_forbidden": "{place} is not a known field.",
    "missing": "{place} is required.",
    "unexpected_keyword_argument": "{place} is not a known field.",
}
"""What is said where no value is at fault."""

MOST_ERRORS = 100
"""How many errors of one body are told; the others would be more of the same."""

TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found", "unknown_tag")
"""pydantic's names, and ours, for an object whose kind cannot be told."""


@dataclass(frozen=True, slots=True)
class ToldBy:
    """Tells the members of a union apart by what `kind` says of a value: the `Tag` of one of them.

    When it says anything else, the error is that the value, or what it has under `key`, must be `expected`.
    """

    kind: Callable[[Any], Any]
    expected: str
    key: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        discriminator = Discriminator(self.kind, **unknown_tag(self.expected, self.key))
        return discriminator.__get_pydantic_core_schema__(source, handler)


def unknown_tag(expected: str, key: str = "") -> dict[str, Any]:
    """The custom error of a tagged union: the value, or what it has under `key`, must be `expected`."""
    return {
        "custom_error_type": "unknown_tag",
        "custom_error_message": "must be {expected}",
        "custom_error_context": {"discriminator": key, "expected": expected},
    }


@dataclass(frozen=True, slots=True)
class Problem:
    """One of pydantic's errors with its way through the data: each step of it, and whether the data has that step."""

    error: ErrorDetails
    steps: tuple[tuple[int | str, bool], ...]

    @property
    def path(self) -> Path:
        """The steps that the data has; the others name branches of unions."""
        return tuple(step for step, real in self.steps if real)


def field_error(field: str, problem: str, value: object) -> ValidationError:
    """An error seen by looking at several fields, placed at the one to change: a name, or a dotted path of names.

    `problem` completes the sentence that begins with the field. Raise it inside a validator, or where no validator is.
    """
    line = _line("inconsistent", f"{field} {problem}", {"problem": problem}, tuple(field.split(".")), value)
    return ValidationError.from_exception_data(field, [line])


def in_words(data: Any, validate: Callable[[Any], T]) -> T:
    """Validate; if that fails, raise the same errors restated. For wrap validators."""
    try:
        return validate(data)
    except ValidationError as error:
        raise restate(error, data) from None


def restate(error: ValidationError, data: object) -> ValidationError:
    """The same errors in sentences; each `loc` is a path in `data`, each `type` and `ctx` as pydantic gave it."""
    if isinstance(data, ArgsKwargs):
        data = data.kwargs
    errors = error.errors(include_url=False)[:MOST_ERRORS]
    problems = [Problem(found, tuple(_walk(found, data))) for found in errors]
    merged: dict[Path, list[ErrorDetails]] = {}
    for problem in _narrow(problems, 0):
        merged.setdefault(problem.path, []).append(problem.error)
    return ValidationError.from_exception_data(error.title, [_restated(path, same) for path, same in merged.items()])


def shown(value: object) -> str:
    """A value as JSON spells it, when short; else what kind of value it is."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 128:
            return f"an integer of {value.bit_length()} bits"
        case int() | float():
            return str(value).removesuffix(".0")
        case str() if len(value) <= 60:
            return f'"{value}"'
        case str():
            return f'"{value[:60]}…" ({len(value)} characters)'
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"


def _walk(error: ErrorDetails, data: object) -> Iterable[tuple[int | str, bool]]:
    """Follow pydantic's location through the data. What is missing, or wrong about a key, is a last step of its own."""
    for place, step in enumerate(error["loc"], 1):
        match data:
            case Mapping() if step in data:
                data = data[step]
                yield step, True
            case list() | tuple() if isinstance(step, int) and step < len(data):
                data = data[step]
                yield step, True
            case _:
                yield step, place == len(error["loc"]) and error["type"] in ("missing", "inconsistent")
    if key := _tag_key(error):
        yield key, True


def _narrow(problems: list[Problem], depth: int) -> list[Problem]:
    """Leave out, wherever a union has several branches, those that did not get as far as the best one."""
    kept = [problem for problem in problems if len(problem.steps) == depth]
    branches: dict[tuple[int | str, bool], list[Problem]] = {}
    for problem in problems:
        if len(problem.steps) > depth:
            branches.setdefault(problem.steps[depth], []).append(problem)
    alternatives = []
    for (_, real), branch in branches.items():
        narrowed = _narrow(branch, depth + 1)
        if real:
            kept += narrowed
        else:
            alternatives.append(narrowed)
    furthest = max((_reach(branch) for branch in alternatives), default=0)
    for branch in alternatives:
        if _reach(branch) == furthest:
            kept += branch
    return kept


def _reach(branch: list[Problem]) -> int:
    return max(len(problem.path) for problem in branch)


def _restated(path: Path, same: list[ErrorDetails]) -> InitErrorDetails:
    """One sentence for all that was expected at one place."""
    first = same[0]
    kind, value = first["type"], first["input"]
    if key := _tag_key(first):  # pydantic points at the object that has the tag; here the path goes on to the tag
        kind, value = (kind, value[key]) if key in value else ("missing", value)
    place = ".".join(map(str, path)) or "the body"
    expected = dict.fromkeys(_expected(error) for error in same if error["type"] in EXPECTED)
    if kind in SENTENCES:
        message = SENTENCES[kind].format(place=place)
    elif kind == "inconsistent":
        message = f"{place} {first['ctx']['problem']}"
    elif expected:
        message = f"{place} must be {_either(list(expected))}, got {shown(value)}."
    else:
        message = first["msg"].removeprefix("Value error, ")
    return _line(kind, message, first.get("ctx", {}), path, value)


def _either(phrases: list[str]) -> str:
    *others, last = phrases
    return f"{', '.join(others)} or {last}" if others else last


def _tag_key(error: ErrorDetails) -> str:
    """The key by which a union's members are told apart, when that is what is wrong; else nothing.

    Nothing too for an error that was restated before, within another union: its location has the key already.
    """
    key = error["ctx"]["discriminator"].strip("'") if error["type"] in TAG_ERRORS else ""
    return "" if error["loc"][-1:] == (key,) else key


def _expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if context.get("min_length") == 1:
        return "a non-empty string" if error["type"] == "string_too_short" else "a non-empty list"
    return EXPECTED[error["type"]].format_map(
        {name: shown(value) if isinstance(value, float) else value for name, value in context.items()}
    )


def _line(kind: str, message: str, context: dict[str, Any], path: Path, value: object) -> InitErrorDetails:
    error = PydanticCustomError(kind, "{message}", {**context, "message": message})
    return {"type": error, "loc": path, "input": value}
