// Transformers.js 2 on Node has no setting for it, but calls the global `fetch`.
import { AutoTokenizer, env } from '@xenova/transformers'
import { fetchWithToken } from './hub_fetch.mjs'

const hubUrl = process.env.HF_ENDPOINT
env.remoteHost = `${hubUrl}/`
env.allowLocalModels = false
env.cacheDir = `${process.env.HOME}/transformers.js`
globalThis.fetch = fetchWithToken(hubUrl)

const tokenizer = await AutoTokenizer.from_pretrained('meta-llama/Llama-2-7b-hf')
console.log(JSON.stringify(tokenizer.encode('Hello world!')))
