"""Files that Hydra reads as they were meant, though this room never imports it.

Hydra reads YAML 1.1 with rules of its own (OmegaConf 2.3, omegaconf/_utils.py): `1e-4` is a number, `${…}` refers to
another value, `\\${` is how to write it as text, "???" is a value that is missing. So every string is quoted here, and
what would refer is escaped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metta_jobs.code.snapshot import guard
from metta_jobs.errors import InvalidInput
from metta_jobs.job import check_name
from metta_jobs.paths import StateDir, find_state_dir

HEADER = "# @package _global_\n"
_ID_LENGTH = 40
_REFERENCE = re.compile(r"(\\*)\$\{")
_FLOAT = re.compile(r"[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+")


def to_yaml(config: Mapping[str, Any]) -> str:
    """The text of a file that holds this plain data: dictionaries with string keys, lists, strings, numbers, None."""
    import yaml

    class Key(str):
        """A key, which is quoted only where it must be."""

    class Dumper(yaml.SafeDumper):
        """Quotes all strings but keys."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        written = _REFERENCE.sub(lambda found: found[1] * 2 + r"\${", value)
        return dumper.represent_scalar("tag:yaml.org,2002:str", written, style='"')

    def key(dumper: yaml.SafeDumper, value: Key) -> yaml.Node:
        plain = value.isidentifier() and value.isascii()
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style=None if plain else '"')

    def keyed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {Key(name): keyed(part) for name, part in value.items()}
        return [keyed(part) for part in value] if isinstance(value, list | tuple) else value

    Dumper.add_representer(str, text)
    Dumper.add_representer(Key, key)
    Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
    body: str = yaml.dump(keyed(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    return HEADER + body


def from_yaml(text: str) -> Any:
    """The plain data of such a text, also of one that was written by hand. Raises ValueError."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes 1e-4 for the number that it is to Hydra."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), list("-+0123456789")
    )
    try:
        return _unescaped(yaml.load(text, Loader=Loader))  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unescaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_unescaped(part) for part in value]
    return _REFERENCE.sub(_plain, value) if isinstance(value, str) else value


def _plain(found: re.Match[str]) -> str:
    if len(found[1]) % 2 == 0:
        raise ValueError("it refers to other values by ${…}, which Hydra alone resolves: write the values themselves")
    return found[1][: len(found[1]) // 2] + "${"


def read(path: Path) -> dict[str, Any]:
    """The plain data of a file. Raises InvalidInput."""
    try:
        found = from_yaml(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidInput(f"The configuration {path} cannot be read: {str(error).rstrip('.')}.") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} is no configuration: it must hold `field: value` lines.")
    return found


def fingerprint(path: Path) -> str:
    """What tells the content of a file from any other: 16 characters. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def keep(config: dict[str, Any], name: str, folder: Path | str | None) -> tuple[Path, dict[str, Any]]:
    """Put a configuration into <folder>/<hash>/<name>.yaml, whole or not at all; return its path, and itself.

    It is on disk when this returns. Raises InvalidInput.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidInput(f"{error}.") from error
    if folder is None:
        state = StateDir(find_state_dir())
        state.create()
        folder = state.configs
    store = Path(folder).expanduser().absolute()
    text = to_yaml(config)
    identity = hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:_ID_LENGTH]
    path = store / identity / f"{name}.yaml"
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        with guard(store, exclusive=False):
            path.parent.mkdir(exist_ok=True)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                _write(path, text)
            os.utime(path.parent)  # it counts as used just now, so no `prune` takes it before its job is stored
    except OSError as error:
        raise InvalidInput(f"The configuration {path} cannot be written: {error.strerror}.") from error
    return path, config


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with aside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o444)  # what a job was told is not edited: a changed training is another job
        aside.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
