"""Any Markdown at all becomes HTML that cannot act."""

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from gatehouse.web.card_links import CardLinks
from gatehouse.web.markdown import render_markdown

LINKS = CardLinks("/ann/bert", "main", "docs")
ALLOWED_SCHEMES = ("http://", "https://", "mailto:", "/", "#")

PIECES = (
    st.sampled_from("<>\"'/=&;:[]()!#*_`~|\\\n\t -\x00\x85\u2028")
    | st.sampled_from(
        ["<script", "<img ", "<a ", "<svg ", "<math>", "<style>", "<input ", "<!--", "-->"]
    )
    | st.sampled_from(
        [" src=", " href=", " onerror=", " style=", " id=x", " class=button ", "alert(1)"]
    )
    | st.sampled_from(
        ["javascript:", "data:text/html,", "&#106;avascript:", "https://e.example/a.png"]
    )
    | st.sampled_from(
        ["</a>", "</p>", "<br>", "```", "[x](", "![x](", "[^1]", "<![CDATA[", "]]>", "a.png)"]
    )
)
MARKDOWN = st.lists(PIECES | st.text(max_size=4), max_size=30).map("".join)
URL = st.lists(PIECES | st.text(max_size=4), max_size=6).map("".join)


class Inspector(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "style", "svg", "math", "iframe", "form", "object", "base"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"style", "name", "srcset", "formaction", "xlink:href"}
            if name in {"href", "src"}:
                assert (value or "").startswith(ALLOWED_SCHEMES)
            if name == "src":
                assert (value or "").startswith("/")
                assert not (value or "").startswith("//")
            if name == "id":
                assert (value or "").startswith("user-content-")


@settings(max_examples=400, deadline=2000)
@given(MARKDOWN)
def test_no_markdown_can_act(markdown: str) -> None:
    inspector = Inspector(convert_charrefs=True)
    inspector.feed(render_markdown(markdown, LINKS))
    inspector.close()


@settings(max_examples=300)
@given(URL)
def test_an_address_leads_to_this_hub_or_openly_elsewhere_or_nowhere(url: str) -> None:
    for found in (LINKS.link(url), LINKS.image(url)):
        if found is not None:
            assert found.startswith(ALLOWED_SCHEMES)
            assert "\\" not in found
            assert not any(letter <= " " or letter == "\x7f" for letter in found)
