"""Markdown that strangers wrote, as HTML that is safe beside a session cookie.

GitHub's flavour, raw HTML included; then everything goes through one allow-list, whatever produced
it. Knows nothing of repositories but how their links are rewritten.
"""

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.gfm import gfm_plugin

from gatehouse.web.card_links import FRAGMENT_PREFIX, NO_REPOSITORY, CardLinks

MAX_MARKDOWN_LENGTH = 128 * 1024
"""Characters that are rendered; the rest is left out and said to be."""

_KEPT_TEXTS = 64

_TAG_NAMES = """
a abbr b blockquote br caption center code dd del details div dl dt em figcaption figure h1 h2 h3 h4
h5 h6 hr i img input ins kbd li mark ol p pre q s samp section small span strong sub summary sup
table tbody td tfoot th thead tr u ul var
"""
_DROPPED_NAMES = """
script style title textarea iframe noembed noframes noscript template svg math object select
"""
_TAGS = frozenset(_TAG_NAMES.split())
_DROPPED_WITH_CONTENT = frozenset(_DROPPED_NAMES.split())
_ATTRIBUTES = {
    "*": {"id", "class", "title", "lang", "dir", "align"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "details": {"open"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    "input": {"checked"},
}
_CLASSES = re.compile(
    r"language-[\w+#.-]{1,40}|(?:contains-)?task-list(?:-item(?:-checkbox)?)?"
    r"|footnotes(?:-list|-sep)?|footnote-(?:ref|item|backref)"
    r"|markdown-alert(?:-title|-note|-tip|-important|-warning|-caution)?"
)
_TASK_BOX = {"type": "checkbox", "disabled": "", "aria-label": "task"}
_NUMBER = re.compile(r"[0-9]{1,5}%?")
_ALIGNMENTS = frozenset({"left", "right", "center", "justify"})
_NUMERIC = frozenset({"width", "height", "start", "colspan", "rowspan"})
_ALIGN_STYLE = re.compile(r"text-align:(\w+)")

_TAG = re.compile(r"<(/?)(a|img)\b([^>]*)>")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True})
    gfm_plugin(parser)
    anchors_plugin(parser, max_level=4)
    return parser


_PARSER = _parser()


# The worst of texts takes seconds, and whoever wrote it can ask for its page again and again.
@lru_cache(_KEPT_TEXTS)
def render_markdown(text: str, links: CardLinks = NO_REPOSITORY) -> Markup:
    """Render Markdown to sanitised HTML.

    Relative links lead to the repository's file pages, relative images to its files. Pictures of
    other hosts become links: a page of this hub makes no request to a third party.
    """
    shown = text[:MAX_MARKDOWN_LENGTH]
    tokens = _PARSER.parse(shown)
    for token in tokens:
        _move_alignment(token)
    html = _sanitise(_PARSER.renderer.render(tokens, _PARSER.options, {}), links)
    if len(shown) < len(text):
        html += "<p><em>The rest of this text is too long to be shown here.</em></p>"
    return Markup(_without_foreign_images(html))  # noqa: S704  (sanitised above)


def _move_alignment(token: Token) -> None:
    """Tables align by an inline style, which our content security policy refuses."""
    style = token.attrs.pop("style", None)
    if isinstance(style, str) and (match := _ALIGN_STYLE.fullmatch(style)):
        token.attrSet("align", match[1])


def _sanitise(html: str, links: CardLinks) -> str:
    def keep(tag: str, attribute: str, value: str) -> str | None:
        if attribute == "href":
            return links.link(value)
        if attribute == "src":
            return links.image(value)
        return _plain_attribute(attribute, value)

    return nh3.clean(
        html,
        tags=set(_TAGS),
        clean_content_tags=set(_DROPPED_WITH_CONTENT),
        attributes=_ATTRIBUTES,
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener",
        id_prefix=FRAGMENT_PREFIX,
        set_tag_attribute_values={"input": _TASK_BOX},
    )


def _plain_attribute(attribute: str, value: str) -> str | None:
    if attribute == "class":
        return " ".join(name for name in value.split() if _CLASSES.fullmatch(name)) or None
    if attribute == "align":
        return value if value in _ALIGNMENTS else None
    if attribute in _NUMERIC:
        return value if _NUMBER.fullmatch(value) else None
    return value


def _without_foreign_images(html: str) -> str:
    """Turn `<img>` of other hosts into a link, or into its text where it already stands in one.

    Works on the sanitiser's output, where every attribute is quoted and holds no `<`, `>` or `"`.
    """
    inside_link = False

    def replace(match: re.Match[str]) -> str:
        nonlocal inside_link
        closing, tag, attributes = match.groups()
        if tag == "a":
            inside_link = not closing
            return match[0]
        found = dict(_ATTRIBUTE.findall(attributes))
        source = found.get("src", "")
        text = found.get("alt") or "image"
        if not source:
            return text
        if not source.startswith(("http:", "https:", "//")):
            return match[0]
        if inside_link:
            return text
        return f'<a href="{source}" rel="nofollow noopener" class="foreign-image">{text}</a>'

    return _TAG.sub(replace, html)
