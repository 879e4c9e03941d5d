"""quire_protocol."""
