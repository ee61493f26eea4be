// As people write it for the public hub: nothing here knows of another one.
import { AutoTokenizer } from '@huggingface/transformers'

const tokenizer = await AutoTokenizer.from_pretrained('meta-llama/Llama-2-7b-hf')
console.log(JSON.stringify(tokenizer.encode('Hello world!')))
