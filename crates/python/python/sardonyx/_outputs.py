"""The outputs of a run."""

from __future__ import annotations

from typing import Any


class Outputs(dict[str, Any]):
    """The outputs of a run: a dict that also takes a number (`outputs[0]`) and has each name as an attribute.

    >>> scores, boxes = outputs.values()
    """

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int):
            return list(self.values())[key]
        try:
            return super().__getitem__(key)
        except KeyError:
            raise KeyError(f"no output is called '{key}'; there are {', '.join(self)}") from None

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None
