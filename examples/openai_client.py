"""The official openai client against a running server: a chat, a text completion, and what this server adds to the API.

quire serve &
python examples/openai_client.py --base-url http://127.0.0.1:8000/v1
"""

import argparse

import openai


def main() -> None:
    """Ask three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1", help="where the server's API is")
    parser.add_argument("--api-key", default="none", help="key of the server, if it asks for one")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key)
    model = client.models.list().data[0].id

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a quire?"}]
    answer = client.chat.completions.create(model=model, messages=messages, max_completion_tokens=32, seed=1)
    print("chat:      ", repr(answer.choices[0].message.content), answer.choices[0].finish_reason)

    text = client.completions.create(model=model, prompt="A quire is", max_tokens=16, temperature=0, logprobs=1)
    print("completion:", repr(text.choices[0].text), f"{text.usage.completion_tokens} tokens")

    # What the client does not know goes through extra_body; a field that the server does not know is a 400.
    more = client.completions.create(
        model=model, prompt="A quire is", max_tokens=4, extra_body={"top_k": 5, "min_p": 0.1}
    )
    print("top-k:     ", repr(more.choices[0].text))
    try:
        client.completions.create(model=model, prompt="A quire is", extra_body={"guided_regex": "[a-z]+"})
    except openai.BadRequestError as error:
        print("refused:   ", error.body["message"])


if __name__ == "__main__":
    main()
