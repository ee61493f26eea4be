"""The tokenizer of the demo model: a byte-level BPE, and a chat template in the style of Llama 2.

It also turns documents into token ids with targets. A conversation is encoded exactly as the
template renders it, so what is trained is what `apply_chat_template` asks for later.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gatehouse.training.batches import IGNORED, Example
from gatehouse.training.demo.corpus import Document

PAD: Final = "<pad>"
BOS: Final = "<s>"
EOS: Final = "</s>"
SPECIAL_TOKENS: Final = (PAD, BOS, EOS, "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")

# Like Llama 2's, but the answer follows `[/INST]` at once, so that no answer begins with a space.
CHAT_TEMPLATE: Final = """\
{%- if messages[0]['role'] == 'system' -%}
  {%- set system = '<<SYS>>\\n' + messages[0]['content'].strip() + '\\n<</SYS>>\\n\\n' -%}
  {%- set turns = messages[1:] -%}
{%- else -%}
  {%- set system = '' -%}
  {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}
  {%- endif -%}
  {%- if message['role'] == 'user' -%}
    {%- set text = (system if loop.first else '') + message['content'].strip() -%}
    {{- bos_token + '[INST] ' + text + ' [/INST]' -}}
  {%- else -%}
    {{- message['content'].strip() + eos_token -}}
  {%- endif -%}
{%- endfor -%}
"""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a vocabulary of `vocab_size` from `texts`; digits always stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos_id = SPECIAL_TOKENS.index(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )


def all_text(document: Document) -> str:
    """Everything a tokenizer should see of `document`."""
    return document.text or "\n".join(message["content"] for message in document.messages)


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> Example:
    """Token ids of `document`.

    In plain text every token is a target, in a conversation only the answers are.
    """
    if document.text:
        ids = tokenizer.encode(document.text + EOS)
        return Example(ids, [IGNORED, *ids[1:]])
    ids, targets = [], []
    system = f"<<SYS>>\n{document.system}\n<</SYS>>\n\n" if document.system else ""
    for exchange in document.exchanges:
        question = tokenizer.encode(
            f"{BOS}[INST] {system}{exchange.question} [/INST]", add_special_tokens=False
        )
        answer = tokenizer.encode(exchange.answer + EOS, add_special_tokens=False)
        ids += question + answer
        targets += [IGNORED] * len(question) + answer
        system = ""
    return Example(ids, targets)
