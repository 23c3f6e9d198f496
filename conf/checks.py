"""Ways to say that a config value is out of range, or a directory taken."""

from pathlib import Path


def require(condition: bool, field: str, value: object, remedy: str) -> None:
    """Raise ValueError for a config value out of range, naming the field, the value and what would be right."""
    if not condition:
        raise ValueError(f"{field}={value!r} is not valid: {remedy}")


def require_vacant(field: str, directory: Path) -> None:
    """Raise ValueError when a directory that is to be written is anything but absent or empty."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{field}={directory} exists and is not an empty directory; name another, or remove it")
