"""Adapters are loaded and unloaded by name."""

import pytest
from pydantic import ValidationError

from quire_protocol import LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest


def test_an_adapter_is_loaded_from_a_path_under_a_name() -> None:
    request = LoadLoRAAdapterRequest(lora_name="french", lora_path="adapters/french")
    assert (request.lora_name, request.lora_path) == ("french", "adapters/french")


def test_an_adapter_is_unloaded_by_its_name_alone() -> None:
    assert UnloadLoRAAdapterRequest(lora_name="french").lora_int_id is None


@pytest.mark.parametrize("request_", [LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest])
def test_an_adapter_without_a_name_is_refused(request_: type) -> None:
    with pytest.raises(ValidationError, match="lora_name is required"):
        request_()
