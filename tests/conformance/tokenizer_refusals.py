"""How `transformers` is refused a tokenizer, with the machine's own token and with none."""

from stock_client import StockClient

# One process for both: importing `transformers` takes seconds.
_PROGRAM = """
    import json, sys
    from transformers import AutoTokenizer
    def refusal(**options):
        names = []
        try:
            AutoTokenizer.from_pretrained(sys.argv[1], **options)
        except Exception as error:
            while error is not None:
                names.append(type(error).__name__)
                error = error.__cause__
        return names
    print(json.dumps([refusal(), refusal(token=False)]))
    """


def tokenizer_refusals(client: StockClient, repo_id: str) -> list[list[str]]:
    """The error that ends either attempt and those that caused it; none where it is let in."""
    refusals: list[list[str]] = client.python(_PROGRAM, repo_id)
    return refusals


def assert_gated(client: StockClient, repo_id: str) -> None:
    """Both end in what `transformers` makes of a `GatedRepoError`."""
    for names in tokenizer_refusals(client, repo_id):
        assert names[0] == "OSError"
        assert "GatedRepoError" in names
