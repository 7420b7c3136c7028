"""Paths as the log may show them: a client may have put a token or a name there, by mistake."""

from collections.abc import Iterable

_OTHER = "..."


class PathWords:
    """Knows the words of the paths that are served."""

    def __init__(self, paths: Iterable[str]) -> None:
        known = [path.split("/") for path in paths]
        self._words = frozenset(word for words in known for word in words) | {"-", "*"}
        self._longest = max(map(len, known), default=1)

    def shown(self, path: str) -> str:
        """Return a path up to the first word that no path of ours has, and dots in place of the rest."""
        words = path.split("/")
        known = 0
        while known < min(len(words), self._longest) and words[known] in self._words:
            known += 1
        return path if known == len(words) else "/".join([*words[:known], _OTHER])
