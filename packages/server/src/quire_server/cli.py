"""The `quire` command: reads the arguments and hands over. What is slow to import is left to whoever needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from quire_engine.config import EngineConfig
from quire_engine.errors import ConfigError
from quire_server.__about__ import __version__
from quire_server.flags import Parser, add_flags, read_flags, refuse_flags_not_built, unknown_flags, validated
from quire_server.settings import ServerSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status: 0, 1 when a request failed, 2 when what was asked for cannot be."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    try:
        namespace, unknown = parser.parse_known_args(words)
        if unknown:
            refuse_flags_not_built(unknown)
            raise ConfigError(unknown_flags(unknown, namespace.parser))
        return int(namespace.run(namespace))
    except ConfigError as error:
        print(f"quire: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = Parser(prog="quire", description="Serve a language model over the OpenAI API, or talk to one.")
    parser.add_argument("--version", action="version", version=f"quire {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    serve = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description="Serve a model over HTTP.",
        usage="quire serve [MODEL] [flags]",
    )
    add_flags(serve, EngineConfig, ServerSettings)
    serve.set_defaults(run=run_serve, parser=serve)

    check = commands.add_parser(
        "check",
        help="say what would be decided, without serving",
        description="Load a model and print the decisions.",
        usage="quire check [MODEL] [flags]",
    )
    add_flags(check, EngineConfig)
    check.set_defaults(run=run_check, parser=check)

    chat = commands.add_parser("chat", help="chat with a running server", description="Chat with a running server.")
    add_client_flags(chat)
    chat.add_argument("--system-prompt", help="what the model is told before the conversation")
    chat.set_defaults(run=run_chat, parser=chat)

    complete = commands.add_parser(
        "complete", help="let a running server continue text", description="Let a running server continue text."
    )
    add_client_flags(complete)
    complete.add_argument("--max-tokens", type=int, default=128, help="most tokens of one completion (default: 128)")
    complete.set_defaults(run=run_complete, parser=complete)
    return parser


def add_client_flags(parser: argparse.ArgumentParser) -> None:
    """What the terminal clients share."""
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="the server's API (default: %(default)s)")
    parser.add_argument("--model-name", help="model to ask; the server's first when absent")
    parser.add_argument("--api-key", default="none", help="key of the server, when it wants one")
    parser.add_argument("-q", "--quick", metavar="TEXT", help="ask this once and end")


def run_serve(namespace: argparse.Namespace) -> int:
    """`quire serve`"""
    asked = read_flags(namespace, EngineConfig, ServerSettings)
    config, settings = validated(EngineConfig, asked), validated(ServerSettings, asked)
    from quire_server.serve import serve

    return serve(config, settings)


def run_check(namespace: argparse.Namespace) -> int:
    """`quire check`"""
    config = validated(EngineConfig, read_flags(namespace, EngineConfig))
    from quire_server.report import check

    return check(config)


def run_chat(namespace: argparse.Namespace) -> int:
    """`quire chat`"""
    from quire_server import terminal

    return terminal.chat(terminal.connect(namespace), namespace.quick, namespace.system_prompt)


def run_complete(namespace: argparse.Namespace) -> int:
    """`quire complete`"""
    from quire_server import terminal

    return terminal.complete(terminal.connect(namespace), namespace.quick, namespace.max_tokens)
