"""A model with more to do than fits at once: a PRO user's requests go before those that wait."""

import string
from pathlib import Path

from client_process import NewProcess, python_process
from hub_server import HubServer, Person
from served_model import push_model
from written_model import ANSWER, COUNTED

from gatehouse.engines.text.cache_bounds import MAX_RUNNING

WAITING_LETTERS = string.ascii_lowercase[:12]
# So long that several would have to pass before anything that goes behind them.
LENGTH = 60
OPENING = """
import threading, time, urllib.request
from functools import partial
from huggingface_hub import InferenceClient

CONVERSATION = [{"role": "user", "content": "What colour?"}]

def client_of(url, token):
    return InferenceClient(model=url, token=token, timeout=60)

def text(client, prompt, **options):
    return client.text_generation(prompt, max_new_tokens=1900, **options)

def regex(value):
    return {"type": "regex", "value": value}

def request_of(url, token, data=None):
    return urllib.request.Request(url, data, {"Authorization": f"Bearer {token}"})

def wait_until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)

def num_held(url, token):
    # Requests that the model has, by the metrics that everybody reads who may run it.
    with urllib.request.urlopen(request_of(f"{url}/metrics", token)) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if "_model_leases{" in line)

def wait_until_read(url, token):
    # The model reads two prompts at once, so what came before these two has been read then.
    for _ in range(2):
        urllib.request.urlopen(request_of(f"{url}/tokenize", token, b'{"inputs": "x"}')).close()

class Askers:
    # Threads of clients, and what they were answered, in the order of the answers.
    def __init__(self):
        self.answers, self.threads = [], []

    def start(self, name, ask):
        def run():
            try:
                self.answers.append([name, ask()])
            except Exception as error:
                self.answers.append([name, repr(error)])
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def num_answers(self, names):
        return sum(name in names for name, _ in self.answers)
"""
PROGRAM = """
askers = Askers()
pro = client_of(url, pro_token)
free = [client_of(url, free_tokens[number % len(free_tokens)]) for number in range(num_running)]

# Everything that runs at once is a free user's, has had its first token, and will not end soon.
streams = [
    text(client, f"Busy {number}", stream=True, grammar=regex("6{1900}"))
    for number, client in enumerate(free)
]
for stream in streams:
    next(stream)

# Then free users' requests that wait, and behind them a PRO user's.
for letter, client in zip(letters, free):
    grammar = regex(letter + "{%d}" % length)
    askers.start(letter, partial(text, client, "One", grammar=grammar))
wait_until(lambda: num_held(url, pro_token) == num_running + len(letters))
askers.start("text", lambda: text(pro, "One"))
askers.start("chat", lambda: pro.chat_completion(CONVERSATION).choices[0].message.content)
wait_until(lambda: num_held(url, pro_token) == num_running + len(letters) + 2)
wait_until_read(url, free_tokens[0])

# One place becomes free: whoever takes it is done before anybody else gets one.
free.pop().close()
wait_until(lambda: askers.num_answers(["text", "chat"]) == 2 or len(askers.answers) > 2)
for client in free:
    client.close()
for thread in askers.threads:
    thread.join()
return askers.answers
"""


def test_pro_requests_go_before_free_ones_that_came_earlier(
    server: HubServer,
    alice: Person,
    carol: Person,
    new_process: NewProcess,
    written_folder: Path,
) -> None:
    crowded = push_model(alice, "crowded", written_folder)
    # So many that none of them has more calls at once than a plan allows.
    free = [server.person(name).read_token for name in ("wilma", "xenia", "yuri", "zoe")]
    answers = new_process(python_process, None, OPENING).ask(
        PROGRAM,
        url=crowded.url,
        free_tokens=free,
        pro_token=carol.read_token,
        num_running=MAX_RUNNING,
        letters=WAITING_LETTERS,
        length=LENGTH,
    )
    expected = {letter: letter * LENGTH for letter in WAITING_LETTERS}
    assert dict(answers) == expected | {"text": COUNTED, "chat": ANSWER}
    assert {name for name, _ in answers[:2]} == {"text", "chat"}
