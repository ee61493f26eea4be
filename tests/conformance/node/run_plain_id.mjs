// As people write it for the public hub: a token and a plain model id.
import { InferenceClient } from '@huggingface/inference'

const client = new InferenceClient(process.env.HF_TOKEN)
const model = process.argv[2]
const { generated_text: text } = await client.textGeneration({ model, inputs: 'One' })
const answer = await client.chatCompletion({
  model,
  messages: [{ role: 'user', content: 'Hello' }],
  temperature: 0,
})
console.log(JSON.stringify({ text, chat: answer.choices[0].message.content }))
