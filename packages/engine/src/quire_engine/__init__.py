"""quire_engine."""
