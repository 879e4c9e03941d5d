"""Talk to a server with the protocol package and the openai client alone: typed requests, typed replies, and a stream.

    python examples/client_only.py --base-url http://127.0.0.1:8000/v1 "What is a quire?"

Needs `quire-protocol`, which brings openai along, and a server of Quire or vLLM at the base URL.
"""

import argparse

import openai

from quire_protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionStreamResponse,
    parse_reply,
    to_openai_kwargs,
    unknown_fields,
)


def ask(client: openai.OpenAI, question: str) -> None:
    """One question, answered at once, with what vLLM adds to OpenAI's API: token ids, and top-k for sampling."""
    request = ChatCompletionRequest(
        messages=[{"role": "user", "content": question}],
        max_completion_tokens=64,
        seed=1,
        top_k=20,
        return_token_ids=True,
    )
    assert not unknown_fields(request)  # a misspelt field would be named here, and not be ignored by the server
    reply = parse_reply(client.chat.completions.create(**to_openai_kwargs(request)), ChatCompletionResponse)
    choice = reply.choices[0]
    print(f"answer: {choice.message.content!r} ({choice.finish_reason})")
    print(f"prompt: {len(reply.prompt_token_ids or [])} tokens; answer: {choice.token_ids}")


def stream(client: openai.OpenAI, question: str) -> None:
    """The same question, answered piece by piece, with the usage at the end."""
    request = ChatCompletionRequest(
        messages=[{"role": "user", "content": question}],
        max_completion_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
        min_p=0.05,
    )
    print("stream: ", end="")
    for event in client.chat.completions.create(**to_openai_kwargs(request)):
        chunk = parse_reply(event, ChatCompletionStreamResponse)
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\nusage: {chunk.usage.prompt_tokens} + {chunk.usage.completion_tokens} tokens")


def main() -> None:
    """Ask a question twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1", help="where the server's API is")
    parser.add_argument("--api-key", default="none", help="key of the server, if it asks for one")
    parser.add_argument("question", nargs="?", default="What is a quire?", help="what to ask")
    arguments = parser.parse_args()
    with openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key) as client:
        ask(client, arguments.question)
        stream(client, arguments.question)


if __name__ == "__main__":
    main()
