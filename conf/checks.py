"""One way to say that a config value is out of range."""


def require(condition: bool, field: str, value: object, remedy: str) -> None:
    """Raise ValueError for a config value out of range, naming the field, the value and what would be right."""
    if not condition:
        raise ValueError(f"{field}={value!r} is not valid: {remedy}")
