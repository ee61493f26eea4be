// Neither package sends a token to hosts other than the public hub's, so the caller does it: a
// `fetch` that adds the token of the environment to requests to one address, and to no other.
export function fetchWithToken(hubUrl) {
  const plainFetch = globalThis.fetch
  const token = process.env.HF_TOKEN
  return (url, init = {}) => {
    const headers = new Headers(init.headers)
    if (token && String(url).startsWith(`${hubUrl}/`)) {
      headers.set('Authorization', `Bearer ${token}`)
    }
    return plainFetch(url, { ...init, headers })
  }
}
