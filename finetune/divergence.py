"""What a training raises that diverged: no mistake of a file or a key, and no fault of the program either."""


class DivergedError(Exception):
    """The loss or the scores of a training are no longer finite; the message says what to lower."""
