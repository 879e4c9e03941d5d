"""The text side: everything that knows characters. Below it there are only token ids."""
