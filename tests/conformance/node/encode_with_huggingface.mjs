// Transformers.js 4 on Node: `env.fetch` is its setting for the function that sends requests.
import { AutoTokenizer, env } from '@huggingface/transformers'
import { fetchWithToken } from './hub_fetch.mjs'

const hubUrl = process.env.HF_ENDPOINT
env.remoteHost = `${hubUrl}/`
env.allowLocalModels = false
env.cacheDir = `${process.env.HOME}/transformers.js`
env.fetch = fetchWithToken(hubUrl)

const tokenizer = await AutoTokenizer.from_pretrained('meta-llama/Llama-2-7b-hf')
console.log(JSON.stringify(tokenizer.encode('Hello world!')))
