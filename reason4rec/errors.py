"""The one exception that a user may cause, and that a script answers with one line and exit code 2."""


class InputError(ValueError):
    """Bad input: the message says which file, column or row, and what to do."""
