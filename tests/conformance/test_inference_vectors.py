"""Vectors of texts by `openai`, by three ages of `InferenceClient`, and in Node."""

import math

import httpx
import openai
import pytest
from client_process import ClientProcess, NewProcess, node_process, python_process
from hub_server import HubServer, Person
from served_model import ServedModel, push_model
from written_model import save_written_model

OPENING = """
import os
from huggingface_hub import InferenceClient

def client_of(url):
    return InferenceClient(model=url, token=os.environ["HF_TOKEN"])
"""
NODE_OPENING = """
const client = new inference.InferenceClient(process.env.HF_TOKEN)
return { client }
"""
VERSIONS = {"2.4": None, "0.36": "hub-0.36", "0.23": "hub-0.23"}
SENTENCES = ["One two", "The sky", "One two"]


@pytest.fixture(scope="module")
def embedder(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = save_written_model(tmp_path_factory.mktemp("embedder"), "feature-extraction")
    return push_model(server.person("alice"), "embedder", folder)


@pytest.fixture(params=VERSIONS)
def client(request: pytest.FixtureRequest, new_process: NewProcess, carol: Person) -> ClientProcess:
    return new_process(python_process, carol.read_token, OPENING, VERSIONS[request.param])


@pytest.fixture
def js(new_process: NewProcess, carol: Person) -> ClientProcess:
    return new_process(node_process, carol.read_token, NODE_OPENING)


@pytest.mark.parametrize("base", ["root", "model"])
def test_openais_vectors_come_as_bytes_unless_asked_otherwise(
    base: str, embedder: ServedModel, carol: Person
) -> None:
    address = {"root": embedder.hub.url, "model": embedder.url}[base]
    with openai.OpenAI(base_url=f"{address}/v1", api_key=carol.read_token) as client:
        create = client.embeddings.create
        found = create(model=embedder.name, input=SENTENCES)
        lists = create(model=embedder.name, input=SENTENCES, encoding_format="float")
        short = create(model=embedder.name, input="One two", dimensions=8)
        with pytest.raises(openai.UnprocessableEntityError, match="`dimensions`"):
            create(model=embedder.name, input="One two", dimensions=9999)
    assert [entry.index for entry in found.data] == [0, 1, 2]
    assert (found.object, found.model) == ("list", embedder.name)
    for ours, theirs in zip(found.data, lists.data, strict=True):
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-6)
    assert found.data[0].embedding == pytest.approx(found.data[2].embedding, abs=1e-5)
    assert found.usage.prompt_tokens > 3
    assert len(short.data[0].embedding) == 8
    assert math.hypot(*short.data[0].embedding) == pytest.approx(1, abs=1e-3)


def test_sentences_are_compared(client: ClientProcess, embedder: ServedModel) -> None:
    program = "return client_of(url).sentence_similarity('One two', other_sentences=others)"
    same, other = client.ask(program, url=embedder.url, others=["One two", "The sky"])
    assert same == pytest.approx(1, abs=1e-4)
    assert other < 0.99


@pytest.mark.parametrize("client", ["2.4"], indirect=True)
def test_features_fit_into_one_array(client: ClientProcess, embedder: ServedModel) -> None:
    program = "return [list(client_of(url).feature_extraction(text).shape) for text in texts]"
    one, several = client.ask(program, url=embedder.url, texts=["One two", SENTENCES])
    assert several[0] == len(SENTENCES)
    assert one[-1] == several[-1]


def test_node_extracts_and_compares(js: ClientProcess, embedder: ServedModel) -> None:
    program = """
    const source_sentence = 'One two'
    const sentences = ['One two', 'The sky']
    return [
      await client.featureExtraction({ endpointUrl, inputs: 'One two' }),
      await client.sentenceSimilarity({ endpointUrl, inputs: { source_sentence, sentences } }),
    ]
    """
    features, [same, other] = js.ask(program, endpointUrl=embedder.url)
    assert features
    assert same == pytest.approx(1, abs=1e-4)
    assert other < 0.99


def test_a_model_of_text_has_no_vectors_and_the_reverse(
    model: ServedModel, embedder: ServedModel, carol: Person
) -> None:
    headers = {"Authorization": f"Bearer {carol.read_token}"}
    for url, body in (
        (f"{model.url}/v1/embeddings", {"input": "One"}),
        (f"{embedder.url}/generate", {"inputs": "One"}),
        (f"{embedder.url}/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ):
        answer = httpx.post(url, json=body, headers=headers, timeout=60)
        assert answer.status_code == 400
        assert "is not supported for" in answer.json()["error"]
