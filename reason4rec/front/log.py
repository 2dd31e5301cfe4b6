"""What is logged: never a word that a visitor wrote or searched."""

import logging
import traceback

logger = logging.getLogger("reason4rec.front")


def without_message(error: BaseException) -> str:
    """The kind of an error and the lines that led to it, without what it says, which may be a visitor's."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {' < '.join(f'{one.filename}:{one.lineno}' for one in reversed(frames[-6:]))}"
