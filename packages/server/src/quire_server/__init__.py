"""quire_server."""
