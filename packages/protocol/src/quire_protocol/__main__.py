"""`python -m quire_protocol`: prints JSON Schemas, and the version."""

import argparse
import json
import sys
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import quire_protocol
from quire_protocol.__about__ import __version__


def models() -> dict[str, type[BaseModel]]:
    """Every public model by its name."""
    public = {name: getattr(quire_protocol, name) for name in quire_protocol.__all__}
    return {name: value for name, value in public.items() if isinstance(value, type) and issubclass(value, BaseModel)}


def schema(names: Sequence[str]) -> dict[str, object]:
    """The JSON Schema of one model, or one document with several models (all, for no name) as its `$defs`."""
    known = models()
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"there is no model named {', '.join(unknown)}; the models are: {', '.join(sorted(known))}")
    if len(names) == 1:
        return known[names[0]].model_json_schema()
    _, document = models_json_schema([(known[name], "validation") for name in names or known])
    return document


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m quire_protocol", description="The schemas of OpenAI and vLLM.")
    commands = parser.add_subparsers(dest="command", required=True)
    printing = commands.add_parser("schema", help="print the JSON Schema of models")
    printing.add_argument("models", nargs="*", metavar="MODEL", help="name of a model; all of them when none is given")
    commands.add_parser("version", help="print the version of this package")
    asked = parser.parse_args(arguments)
    if asked.command == "version":
        print(__version__)
    else:
        print(json.dumps(schema(asked.models), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
