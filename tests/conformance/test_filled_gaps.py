"""Gaps filled by the committed model, with both of the ways in which clients ask."""

import pytest
from conformance_files import GAP_FILLER
from hub_server import HubServer
from huggingface_hub import HfApi, InferenceClient
from openai import OpenAI

PREFIX = "def total_prices(prices):\n    total = 0\n    for price in prices:\n        "
SUFFIX = "\n    return total\n"
MIDDLE = "total += price"


@pytest.fixture(scope="module")
def gap_filler(server: HubServer) -> str:
    owner = server.person("filler")
    repo_id = f"{owner.name}/gap-filler"
    api = HfApi(server.url, token=owner.write_token)
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=GAP_FILLER)
    return repo_id


def test_prompt_written_by_hand_is_answered_up_to_its_mark(
    server: HubServer, gap_filler: str
) -> None:
    token = server.person("filler").read_token
    client = InferenceClient(model=f"{server.url}/models/{gap_filler}", token=token)
    prompt = f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>"
    answer = client.text_generation(prompt, max_new_tokens=40, return_full_text=False)
    assert answer == f"{MIDDLE} <EOT>"


@pytest.mark.parametrize("base", ["/v1", "/models/{model}/v1"])
def test_suffix_of_a_completion_is_what_comes_after(
    server: HubServer, gap_filler: str, base: str
) -> None:
    token = server.person("filler").read_token
    client = OpenAI(base_url=server.url + base.format(model=gap_filler), api_key=token)
    completion = client.completions.create(
        model=gap_filler, prompt=PREFIX, suffix=SUFFIX, max_tokens=40, temperature=0
    )
    assert completion.choices[0].text == MIDDLE
    assert completion.choices[0].finish_reason == "stop"


def test_streamed_pieces_join_to_the_same_text(server: HubServer, gap_filler: str) -> None:
    token = server.person("filler").read_token
    client = OpenAI(base_url=f"{server.url}/v1", api_key=token)
    chunks = client.completions.create(
        model=gap_filler, prompt=PREFIX, suffix=SUFFIX, max_tokens=40, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == MIDDLE
