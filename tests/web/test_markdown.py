"""Cards as HTML: what Markdown promises is shown, and nothing in it can act."""

import re
import time
from html.parser import HTMLParser

import pytest

from gatehouse.web.card_links import CardLinks
from gatehouse.web.markdown import MAX_MARKDOWN_LENGTH, render_markdown

LINKS = CardLinks("/ann/bert", "refs/pr/1", "docs")
DEAD_LETTERS = {
    "script",
    "style",
    "iframe",
    "form",
    "object",
    "embed",
    "svg",
    "math",
    "base",
    "meta",
}


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed(html)
    return parser.found


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("# A title", '<h1 id="user-content-a-title">A title</h1>'),
        ("~~gone~~", "<s>gone</s>"),
        ("| a | b |\n|---|--:|\n| 1 | 2 |", '<td align="right">2</td>'),
        (
            "```python\nx = 1 < 2\n```",
            '<pre><code class="language-python">x = 1 &lt; 2\n</code></pre>',
        ),
        ("see https://example.com/a?b=1&c", '<a href="https://example.com/a?b=1&amp;c"'),
        ("[up](#a-title)", 'href="#user-content-a-title"'),
        ("[mail](mailto:a@b.c)", 'href="mailto:a@b.c"'),
        ("<details><summary>s</summary>\n\nt\n\n</details>", "<details><summary>s</summary>"),
        ("line\n<br>\n<kbd>x</kbd>", "<kbd>x</kbd>"),
        ("> [!NOTE]\n> text", "markdown-alert-note"),
    ],
)
def test_markdown_is_rendered(markdown: str, html: str) -> None:
    assert html in render_markdown(markdown)


def test_footnotes_lead_to_their_note() -> None:
    html = render_markdown("text[^1]\n\n[^1]: the note")
    assert 'href="#user-content-fn1"' in html
    assert 'id="user-content-fn1"' in html


def test_task_lists_are_boxes_that_cannot_be_changed() -> None:
    boxes = [
        attributes
        for tag, attributes in elements(render_markdown("- [x] a\n- [ ] b"))
        if tag == "input"
    ]
    assert [("checked" in box, "disabled" in box, box["type"]) for box in boxes] == [
        (True, True, "checkbox"),
        (False, True, "checkbox"),
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("a.md", "/ann/bert/blob/refs%2Fpr%2F1/docs/a.md"),
        ("../LICENSE", "/ann/bert/blob/refs%2Fpr%2F1/LICENSE"),
        ("a%20b.md#part", "/ann/bert/blob/refs%2Fpr%2F1/docs/a%20b.md#user-content-part"),
        ("/ann/other", "/ann/other"),
        ("https://example.com", "https://example.com"),
        ("../../outside", None),
        ("javascript:alert(1)", None),
        ("JaVaScRiPt:alert(1)", None),
        ("java\tscript:alert(1)", None),
        ("\x01javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("vbscript:x", None),
        ("/\\evil.example", None),
        ("http://[bad", None),
        ("", None),
    ],
)
def test_links_are_rewritten_or_dropped(url: str, expected: str | None) -> None:
    assert LINKS.link(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("plot.png", "/ann/bert/resolve/refs%2Fpr%2F1/docs/plot.png"),
        ("./a/../plot.png?download=1", "/ann/bert/resolve/refs%2Fpr%2F1/docs/plot.png?download=1"),
        ("data:image/svg+xml,<svg/>", None),
        ("mailto:a@b.c", None),
        ("javascript:1", None),
    ],
)
def test_images_are_rewritten_or_dropped(url: str, expected: str | None) -> None:
    assert LINKS.image(url) == expected


def test_a_picture_of_another_host_becomes_a_link() -> None:
    html = render_markdown("![a *badge*](https://img.example/b.svg) ![ours](ours.png)", LINKS)
    [image] = [attributes for tag, attributes in elements(html) if tag == "img"]
    assert image["src"] == "/ann/bert/resolve/refs%2Fpr%2F1/docs/ours.png"
    assert '<a href="https://img.example/b.svg" rel="nofollow noopener"' in html
    assert ">a badge</a>" in html


def test_a_foreign_picture_inside_a_link_becomes_its_text() -> None:
    html = render_markdown("[![build](https://img.example/b.svg)](https://example.com)")
    assert html == ('<p><a href="https://example.com" rel="nofollow noopener">build</a></p>\n')


PAYLOADS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<img src='javascript:alert(1)'>",
    '<img src="x" style="position:fixed">',
    "<svg onload=alert(1)><a href=javascript:alert(1)>x</a></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror&gt;'>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<form action=/settings/tokens method=post><button>x</button><input name=a></form>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "![x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    '<https://example.com"onmouseover=alert(1)>',
    '[a](https://example.com "title\\" onmouseover=alert(1)")',
    "<details ontoggle=alert(1) open>x</details>",
    "<body onload=alert(1)><base href=//evil.example><meta http-equiv=refresh content=0>",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "<template><script>alert(1)</script></template>",
    "<div id=csrf_token name=forms class='site-header button'>x</div>",
    "<table background=javascript:alert(1)><td style='background:url(x)'>x",
    "<object data=x></object><embed src=x><link rel=stylesheet href=x>",
    "<input type=password autofocus onfocus=alert(1) name=password>",
    "<p title='</p><script>alert(1)</script>'>x</p>",
    '```"><script>alert(1)</script>\nx\n```',
    "# <img src=x onerror=alert(1)> title",
    "<a href='&#106;avascript:alert(1)'>x</a>",
    "<x-y onclick=alert(1)>t</x-y>",
    "<!--><script>alert(1)</script>-->",
    '!["><script>alert(1)</script>](https://evil.example/a.png)',
    "<img alt='<script>alert(1)</script>' src='https://evil.example/a.png'>",
    "<img alt='a>b' src='https://evil.example/a.png?x=&quot;onload=alert(1)'>",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_in_a_card_can_act(payload: str) -> None:
    html = render_markdown(payload, LINKS)
    for tag, attributes in elements(html):
        assert tag not in DEAD_LETTERS
        assert not any(
            name.startswith("on") or name in {"style", "name", "action"} for name in attributes
        )
        for name in ("href", "src"):
            assert not re.match(
                r"\s*(javascript|data|vbscript)", attributes.get(name) or "", re.IGNORECASE
            )
        assert (attributes.get("id") or "user-content-").startswith("user-content-")
        assert attributes.get("class") not in {"button", "site-header"}
        if tag == "a" and "href" in attributes:
            assert attributes["rel"] == "nofollow noopener"
        if tag == "input":
            assert attributes["type"] == "checkbox"
            assert "disabled" in attributes
        if tag == "img":
            assert (attributes.get("src") or "/").startswith("/")


def test_a_very_long_card_is_cut_and_says_so() -> None:
    html = render_markdown("word\n" * MAX_MARKDOWN_LENGTH)
    assert "too long to be shown" in html
    assert len(html) < 2 * MAX_MARKDOWN_LENGTH


@pytest.mark.parametrize(
    "piece",
    ["[", "![", "*a_ ", "> ", "<a ", "`", "- ", "[^1]", "&", "~~a", "www.a ", "|a", "[a](", "\\"],
)
def test_hostile_repetition_stays_affordable(piece: str) -> None:
    started = time.process_time()
    render_markdown(piece * (20_000 // len(piece)))
    assert time.process_time() - started < 5
