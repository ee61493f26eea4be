// Builds the genuine Llama 2 tokenizer's files from the installed library llama-tokenizer-js.
// They are made where a test needs them and never kept: the vocabulary is not ours to hand on.
//
// usage: node make_llama_tokenizer.mjs FOLDER
import fs from 'node:fs'
import path from 'node:path'
import { LlamaTokenizer } from 'llama-tokenizer-js'

const folder = process.argv[2]
const library = new LlamaTokenizer()

const vocabulary = Object.fromEntries(library.vocabById.map((text, id) => [text, id]))
// The order of a Map's keys is the order of the merges. Each stays one text, "left right": the
// older of the clients reads no other form.
const merges = [...library.merges.keys()]
if (Object.keys(vocabulary).length !== 32000 || merges.length !== 61249) {
  throw new Error('this is not the vocabulary of Llama 2')
}

const special = (id, content) => ({
  id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
})
const bos = { SpecialToken: { id: '<s>', type_id: 0 } }
const text = { Sequence: { id: 'A', type_id: 0 } }
const tokenizer = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '\u2581' },
      { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [bos, text],
    pair: [
      bos, text,
      { SpecialToken: { id: '<s>', type_id: 1 } }, { Sequence: { id: 'B', type_id: 1 } },
    ],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null,
    end_of_word_suffix: null, fuse_unk: true, byte_fallback: true, ignore_merges: false,
    vocab: vocabulary, merges,
  },
}
const config = {
  add_bos_token: true, add_eos_token: false, bos_token: '<s>', eos_token: '</s>',
  unk_token: '<unk>', clean_up_tokenization_spaces: false, legacy: false, model_max_length: 4096,
  tokenizer_class: 'LlamaTokenizer',
}

fs.mkdirSync(folder, { recursive: true })
fs.writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer))
fs.writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(config, null, 1))
