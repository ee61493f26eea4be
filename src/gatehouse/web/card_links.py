"""Where the links and images of a card lead: into the repository, out of the house, or nowhere."""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

# Browsers drop tabs and line ends inside a URL and read `\` as `/`: nothing honest needs them.
_SUSPICIOUS = re.compile(r"[\x00-\x20\x7f\\]")
_LINK_SCHEMES = frozenset({"http", "https", "mailto"})
_IMAGE_SCHEMES = frozenset({"http", "https"})
FRAGMENT_PREFIX = "user-content-"


@dataclass(frozen=True, slots=True)
class CardLinks:
    """Rewrites the addresses in one Markdown file of a repository.

    Attributes:
        repo_url: `/namespace/name` with the prefix of its kind, without a closing slash.
        revision: What the file was read at.
        folder: The folder of the file inside the repository, empty for its root.
    """

    repo_url: str
    revision: str
    folder: str = ""

    def link(self, url: str) -> str | None:
        """The address for an `href`, or None to drop it."""
        if url.startswith("#"):
            fragment = url[1:].removeprefix(FRAGMENT_PREFIX)
            return None if _SUSPICIOUS.search(fragment) else f"#{FRAGMENT_PREFIX}{fragment}"
        return self._rewrite(url, "blob", _LINK_SCHEMES)

    def image(self, url: str) -> str | None:
        """The address for a `src`, or None to drop it."""
        return self._rewrite(url, "resolve", _IMAGE_SCHEMES)

    def _rewrite(self, url: str, route: str, schemes: frozenset[str]) -> str | None:
        url = url.strip()
        if not url or _SUSPICIOUS.search(url):
            return None
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        if parts.scheme:
            return url if parts.scheme in schemes else None
        if parts.netloc or url.startswith("/"):
            return url
        path = posixpath.normpath(posixpath.join(self.folder, unquote(parts.path)))
        if path.startswith("..") or path == ".":
            return None
        inside = f"{self.repo_url}/{route}/{quote(self.revision, safe='')}/{quote(path)}"
        query = f"?{parts.query}" if parts.query else ""
        fragment = f"#{FRAGMENT_PREFIX}{parts.fragment}" if parts.fragment else ""
        return f"{inside}{query}{fragment}"


NO_REPOSITORY = CardLinks("", "main")
"""For Markdown that belongs to no file, such as the prompt of a gate."""
