"""What vLLM 0.32 sent, byte for byte, as the adapter for OpenAI's servers reads it."""

from gatehouse.engines.base import (
    ChatPrompt,
    FinishReason,
    GenerationRequest,
    Prompt,
    SequenceOutput,
    TextPrompt,
)
from gatehouse.engines.remote.base import RemoteAbilities, RouteAbilities
from gatehouse.engines.remote.event_lines import EventLines
from gatehouse.engines.remote.openai import OpenAIDialect
from gatehouse.engines.remote.sequence import RemoteSequence

TEXT = """
data: {"id":"cmpl-bdfeab9680f148af","object":"text_completion","created":1795310153,\
"model":"storyteller","choices":[{"index":0,"text":",","logprobs":{"text_offset":[0],\
"token_logprobs":[-0.18129000067710876],"tokens":[","],"top_logprobs":[{",":-0.18129000067710876,\
" there":-1.8062900304794312}]},"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,\
"token_ids":null}]}

data: {"id":"cmpl-bdfeab9680f148af","object":"text_completion","created":1795310153,\
"model":"storyteller","choices":[{"index":0,"text":" there","logprobs":{"text_offset":[1],\
"token_logprobs":[-1.0046931505203247],"tokens":[" there"],"top_logprobs":[{\
" there":-1.0046931505203247," a":-1.6609431505203247}]},"finish_reason":"length",\
"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}

data: {"id":"cmpl-bdfeab9680f148af","object":"text_completion","created":1795310153,\
"model":"storyteller","choices":[],"usage":{"prompt_tokens":5,"total_tokens":7,\
"completion_tokens":2},"system_fingerprint":"vllm-0.32.0-935618d2"}

data: [DONE]

"""
CHAT = """
data: {"id":"chatcmpl-ac498d584632d255","object":"chat.completion.chunk","created":1795310162,\
"model":"storyteller","choices":[{"index":0,"delta":{"role":"assistant","content":""},\
"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-ac498d584632d255","object":"chat.completion.chunk","created":1795310162,\
"model":"storyteller","choices":[{"index":0,"delta":{"content":"Long"},"logprobs":{"content":[{\
"token":"Long","logprob":-1.746339201927185,"bytes":[76,111,110,103],"top_logprobs":[{\
"token":"Long","logprob":-1.746339201927185,"bytes":[76,111,110,103]},{"token":"Once",\
"logprob":-1.371339201927185,"bytes":[79,110,99,101]}]}]},"finish_reason":"length",\
"stop_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-ac498d584632d255","object":"chat.completion.chunk","created":1795310162,\
"model":"storyteller","choices":[],"usage":{"prompt_tokens":13,"total_tokens":14,\
"completion_tokens":1},"system_fingerprint":"vllm-0.32.0-935618d2"}

data: [DONE]

"""
ROUTE = RouteAbilities(logprobs=True, usage=True)
ABILITIES = RemoteAbilities(ROUTE, ROUTE, can_tokenize=True)


def read(prompt: Prompt, stream: str, max_new_tokens: int) -> list[SequenceOutput]:
    request = GenerationRequest(prompt, max_new_tokens=max_new_tokens, num_top_tokens=2)
    reader = OpenAIDialect("storyteller", ABILITIES).reader(request)
    sequence = RemoteSequence(request, None, 0.0)
    found = []
    for event in EventLines().feed(stream.encode()):
        if not sequence.is_over:
            output = sequence.take(reader.read(event), 0.0)
            found += [output] if output is not None else []
    return found


def test_text_comes_with_its_scores_and_numbers() -> None:
    outputs = read(TextPrompt("Once upon a time"), TEXT, 2)
    tokens = [token for output in outputs for token in output.tokens]
    assert "".join(token.piece for token in tokens) == ", there"
    assert [token.token.logprob for token in tokens] == [-0.18129000067710876, -1.0046931505203247]
    assert [token.top[0].text for token in tokens] == [",", " there"]
    last = outputs[-1]
    assert last.finish is not None
    assert last.finish.reason is FinishReason.LENGTH
    assert last.start is not None
    assert last.start.num_prompt_tokens == 5


def test_the_likeliest_come_first_in_conversations() -> None:
    outputs = read(ChatPrompt(({"role": "user", "content": "Tell me a story."},)), CHAT, 1)
    (token,) = [token for output in outputs for token in output.tokens]
    assert (token.piece, token.token.logprob) == ("Long", -1.746339201927185)
    assert [likely.text for likely in token.top] == ["Once", "Long"]
    assert outputs[-1].start is not None
    assert outputs[-1].start.num_prompt_tokens == 13
