"""By which names a server may be called that asks nobody for a key."""

from __future__ import annotations

import pytest
from tests.support.served import Served, error_of

from quire_server.hosts import Hosts, is_loopback
from quire_server.settings import ServerSettings

OWN = (
    "localhost",
    "LOCALHOST:8000",
    "localhost.:1",
    "a.localhost",
    "127.0.0.1:8000",
    "192.168.0.7",
    "[::1]:8000",
    "[::1]",
)
STRANGE = (
    "quire.example",
    "quire.example:8000",
    "localhost.example",
    "127.0.0.1.example",
    "",
    ":8000",
    "[",
    "xlocalhost",
    "é",
)


@pytest.mark.parametrize("host", OWN)
def test_localhost_and_addresses_are_its_own(host: str) -> None:
    assert Hosts().admit([host])


@pytest.mark.parametrize("host", STRANGE)
def test_any_other_name_is_strange(host: str) -> None:
    assert not Hosts().admit([host])


def test_names_may_be_given_and_one_for_any() -> None:
    named = Hosts(["Quire.example"])
    assert named.admit(["quire.example.:8000"])
    assert not named.admit(["other.example"])
    assert Hosts(["*"]).admit(["other.example"])


def test_a_second_host_hides_none_and_none_at_all_comes_from_no_browser() -> None:
    assert not Hosts().admit(["localhost", "quire.example"])
    assert Hosts().admit([])


def test_a_page_whose_name_was_made_to_lead_here_is_refused(engine: Served) -> None:
    api = engine.api()
    body = {"prompt": "x", "max_tokens": 1}
    strange = {"Host": "quire.example:8000", "Origin": "http://quire.example:8000"}
    answer = api.request("POST", "/v1/completions", json=body, headers=strange)
    assert answer.status_code == 403
    assert "--allowed-hosts" in error_of(answer)["message"]
    assert api.get("/v1/models", headers=strange).status_code == 403
    assert api.get("/health", headers=strange).status_code == 200
    assert api.post("/v1/completions", **body)["choices"]


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"allowed_hosts": ("quire.example",)}, 200),
        ({"allowed_hosts": ("*",)}, 200),
        ({"allowed_hosts": ("other.example",)}, 403),
        ({"allowed_hosts": ("other.example",), "host": "0.0.0.0"}, 403),
        ({"host": "127.0.0.2"}, 403),
        ({"host": "0.0.0.0"}, 200),
        ({"uds": "/run/quire"}, 200),
        ({"api_key": ("first",)}, 200),
        ({"admin_key": ("first",)}, 200),
    ],
)
def test_names_matter_where_only_this_machine_comes_in_and_nobody_needs_a_key(
    engine: Served, settings: dict[str, object], status: int
) -> None:
    headers = {"Host": "quire.example", "Authorization": "Bearer first"}
    assert engine.api(**settings).get("/v1/models", headers=headers).status_code == status


def test_a_certificate_keeps_other_names_away_by_itself() -> None:
    assert ServerSettings(api_key=()).minds_hosts
    assert not ServerSettings(api_key=(), ssl_certfile="/run/quire.pem").minds_hosts


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_addresses_of_this_machine_alone_are_known(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(f"1{host}")
