"""Several answers at once, each printed as it comes: asyncio, the openai client, and one server that batches them.

quire serve &
python examples/streaming.py --base-url http://127.0.0.1:8000/v1 "What is a quire?" "And what is a folio?"
"""

import argparse
import asyncio

import openai


async def ask(client: openai.AsyncOpenAI, model: str, question: str) -> None:
    """Stream one answer, then say what it cost."""
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_completion_tokens=48,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        for choice in chunk.choices:
            print(f"{question[:20]:<20} | {choice.delta.content!r}")
        if chunk.usage:
            print(f"{question[:20]:<20} | {chunk.usage.prompt_tokens} + {chunk.usage.completion_tokens} tokens")


async def main() -> None:
    """Ask all questions at the same time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=["What is a quire?", "What is a folio?"])
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1", help="where the server's API is")
    parser.add_argument("--api-key", default="none", help="key of the server, if it asks for one")
    arguments = parser.parse_args()
    async with openai.AsyncOpenAI(base_url=arguments.base_url, api_key=arguments.api_key) as client:
        model = (await client.models.list()).data[0].id
        await asyncio.gather(*(ask(client, model, question) for question in arguments.questions))


if __name__ == "__main__":
    asyncio.run(main())
