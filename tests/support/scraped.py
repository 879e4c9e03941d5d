"""What GET /metrics says, sample by sample."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from tests.support.served import Api


def scraped(api: Api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, by its name and its labels."""
    answer = api.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(api: Api, name: str, **labels: str) -> float:
    """The sum of the samples with this name and these labels."""
    found = [
        value
        for (sample, said), value in scraped(api).items()
        if sample == name and labels.items() <= dict(said).items()
    ]
    assert found, f"there is no {name} with {labels}"
    return sum(found)
