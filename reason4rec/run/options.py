"""The options of steps."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
