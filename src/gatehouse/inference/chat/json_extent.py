"""Finds where a JSON object or array ends, while its text arrives. Pure text.

Brackets and strings are all it looks at; whether the text is JSON is for a decoder to say.
"""

import re

_OUTSIDE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


class JsonExtent:
    """Reads a text from the bracket that opens a value.

    Attributes:
        position: How far the text has been read.
        is_closed: The bracket at the beginning has been closed, just before `position`.
    """

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.is_closed = False
        self._depth = 0
        self._is_in_string = False

    def read(self, text: str) -> None:
        """Read on in `text`, which begins with what was read before."""
        while self.position < len(text) and not self.is_closed:
            pattern = _IN_STRING if self._is_in_string else _OUTSIDE
            found = pattern.search(text, self.position)
            if found is None:
                self.position = len(text)
                return
            if found.group() == "\\" and found.end() == len(text):
                # What is escaped has not come yet.
                self.position = found.start()
                return
            self.position = found.end()
            self._take(found.group())

    def _take(self, sign: str) -> None:
        if sign == "\\":
            self.position += 1
        elif sign == '"':
            self._is_in_string = not self._is_in_string
        elif sign in "{[":
            self._depth += 1
        else:
            self._depth -= 1
            self.is_closed = self._depth == 0
