"""`python -m quire_server` is the `quire` command."""

from quire_server.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
