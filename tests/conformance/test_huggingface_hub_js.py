"""`@huggingface/hub` under Node against the hub."""

from stock_client import StockClient


def test_a_repository_is_filled_and_read_from_javascript(owner: StockClient) -> None:
    outcome = owner.node("hub_round_trip.mjs", "alice/from-javascript")
    files = dict(outcome.pop("files"))
    assert files.pop(".gitattributes") > 0
    assert files == {"a/small.txt": 5, "weights.safetensors": 3_000_000}
    assert outcome == {
        "name": "alice",
        "small": "small",
        "largeIsEqual": True,
        "missing": None,
        "exists": [True, False, True, False],
        "id": "alice/from-javascript",
    }
