// Runs programs in one process of a client, one after the other; see ../python/answer_programs.py.
//
// An opening is a program that returns the names that the others find.
import * as readline from 'node:readline'
import * as inference from '@huggingface/inference'

const AsyncFunction = (async () => {}).constructor

async function run(program, given) {
  const names = Object.keys(given)
  return await new AsyncFunction(...names, program)(...names.map((name) => given[name]))
}

function described(error) {
  const names = []
  for (let kind = error; kind && kind.constructor !== Object; kind = Object.getPrototypeOf(kind)) {
    if (names.at(-1) !== kind.constructor.name) names.push(kind.constructor.name)
  }
  return {
    names,
    text: error.message,
    status: error.httpResponse?.status,
    headers: error.httpResponse?.headers ?? {},
    body: error.httpResponse?.body,
  }
}

const opened = new Map()
async function namesOf(opening) {
  if (!opened.has(opening)) opened.set(opening, await run(opening, { inference }))
  return opened.get(opening)
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line)
  let outcome
  try {
    outcome = { value: await run(asked.program, { ...await namesOf(asked.opening), ...asked.given }) }
  } catch (error) {
    outcome = { error: described(error) }
  }
  console.log(JSON.stringify(outcome))
}
