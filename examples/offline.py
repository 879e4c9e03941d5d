"""Without a server: the engine in this process, prompts in and answers out.

python examples/offline.py [MODEL]
"""

import argparse

from quire_engine import LLM, SamplingParams


def main() -> None:
    """Continue two texts, then answer a conversation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="local folder or Hub id; the embedded default when absent")
    llm = LLM(parser.parse_args().model)

    params = SamplingParams(temperature=0.8, top_p=0.95, max_tokens=16, seed=1)
    for answer in llm.generate(["A quire is", "Paper was first made"], params, use_tqdm=False):
        print(f"{answer.prompt!r} -> {answer.outputs[0].text!r}")

    (answer,) = llm.chat([{"role": "user", "content": "Hello!"}], SamplingParams(temperature=0, max_tokens=16))
    print(f"chat -> {answer.outputs[0].text!r} ({answer.outputs[0].finish_reason})")


if __name__ == "__main__":
    main()
