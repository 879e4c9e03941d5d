"""Loading and unloading LoRA adapters at run time: what is asked, and nothing of how it is done."""

from quire_protocol.base import RequestModel


class LoadLoRAAdapterRequest(RequestModel):
    """Make an adapter available under a name."""

    lora_name: str
    """Name that requests will give as their `model`."""
    lora_path: str
    """Where the server finds the adapter: a folder or a Hub id."""


class UnloadLoRAAdapterRequest(RequestModel):
    """Take an adapter away again."""

    lora_name: str
    """Name that the adapter was loaded under."""
    lora_int_id: int | None = None
    """Number of the adapter, where a server hands them out; the name alone is enough."""
