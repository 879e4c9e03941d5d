"""The fields of the generating requests: each is tried on a server, and a page says what each does."""
