// @huggingface/hub: create a repository, upload, list, download, ask, delete.
//
// usage: node hub_round_trip.mjs REPOSITORY
import {
  createRepo, deleteFile, downloadFile, fileExists, listFiles, modelInfo, repoExists, uploadFile,
  uploadFiles, whoAmI,
} from '@huggingface/hub'

const hub = { hubUrl: process.env.HF_ENDPOINT, accessToken: process.env.HF_TOKEN }
const repo = process.argv[2]
const large = new Uint8Array(3_000_000).map((_, index) => (index * index) >> 7)

await createRepo({ repo, ...hub })
await uploadFile({ repo, file: { path: 'a/small.txt', content: new Blob(['small']) }, ...hub })
await uploadFiles({
  repo,
  files: [
    { path: 'weights.safetensors', content: new Blob([large]) },
    { path: 'gone.txt', content: new Blob(['gone']) },
  ],
  ...hub,
})
await deleteFile({ repo, path: 'gone.txt', ...hub })

const files = []
for await (const file of listFiles({ repo, recursive: true, ...hub })) {
  if (file.type === 'file') files.push([file.path, file.size])
}
const small = await (await downloadFile({ repo, path: 'a/small.txt', ...hub })).text()
const blob = await downloadFile({ repo, path: 'weights.safetensors', ...hub })
const back = new Uint8Array(await blob.arrayBuffer())
const missing = await downloadFile({ repo, path: 'gone.txt', ...hub })

console.log(JSON.stringify({
  name: (await whoAmI(hub)).name,
  files: files.sort(),
  small,
  largeIsEqual: back.length === large.length && back.every((byte, at) => byte === large[at]),
  missing,
  exists: [
    await fileExists({ repo, path: 'a/small.txt', ...hub }),
    await fileExists({ repo, path: 'gone.txt', ...hub }),
    await repoExists({ repo, ...hub }),
    await repoExists({ repo: 'alice/none', ...hub }),
  ],
  id: (await modelInfo({ name: repo, ...hub })).name,
}))
