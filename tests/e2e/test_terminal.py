"""`quire chat` and `quire complete` talk to a running server."""

from tests.support.processes import Server, quire


def test_chat_asks_once_and_ends(server: Server) -> None:
    ended = quire("chat", "--url", server.api, "--quick", "Hello!", "--system-prompt", "Be brief.")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()


def test_complete_reads_lines_until_the_end(server: Server) -> None:
    ended = quire("complete", "--url", server.api, "--max-tokens", "4", stdin="Once upon\n\na time\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    ended = quire("chat", "--url", "http://127.0.0.1:9/v1", "--quick", "Hello!")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("http://127.0.0.1:9/v1 cannot be reached: ")
    assert ended.stderr.count("\n") == 1


def test_a_refusal_is_one_sentence(server: Server) -> None:
    ended = quire("chat", "--url", server.api, "--quick", "Hello!", "--model-name", "other")
    assert ended.returncode == 1
    assert ended.stderr == 'No answer: There is no model "other" here, but tiny.\n'
