// Loaded before a program (NODE_OPTIONS=--import=...): sends what goes to a few host names through
// Gatehouse's drop-in listener, and leaves every other request alone. Node's own `fetch` reads no
// proxy from the environment before Node 24, and then for all hosts or none.
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import tls from 'node:tls'

const { GATEHOUSE_DROP_IN, GATEHOUSE_DROP_IN_NAMES, GATEHOUSE_DROP_IN_CA } = process.env
const isWanted = Boolean(GATEHOUSE_DROP_IN && GATEHOUSE_DROP_IN_NAMES && GATEHOUSE_DROP_IN_CA)
const proxy = isWanted ? new URL(GATEHOUSE_DROP_IN) : undefined
const names = new Set(isWanted ? GATEHOUSE_DROP_IN_NAMES.split(',') : [])
// What these names are trusted by, whatever the program trusts else.
const ca = isWanted ? readFileSync(GATEHOUSE_DROP_IN_CA) : undefined

const isOurs = (host, port) => names.has(host) && Number(port || 443) === 443

// A TLS connection to `host` through the proxy, handed to `callback(error, socket)`.
function connect(host, callback) {
  const tunnel = http.request({
    host: proxy.hostname,
    port: proxy.port,
    method: 'CONNECT',
    path: `${host}:443`,
    agent: false,
  })
  tunnel.once('error', callback)
  tunnel.once('response', response => {
    callback(new Error(`Gatehouse's drop-in listener answered ${response.statusCode}`))
    tunnel.destroy()
  })
  tunnel.once('connect', (response, socket) => {
    if (response.statusCode !== 200) {
      socket.destroy()
      callback(new Error(`Gatehouse's drop-in listener answered ${response.statusCode}`))
      return
    }
    const secured = tls.connect({ socket, servername: host, ca, ALPNProtocols: ['http/1.1'] })
    secured.once('error', callback)
    secured.once('secureConnect', () => {
      secured.off('error', callback)
      callback(null, secured)
    })
  })
  tunnel.end()
}

// Node's `fetch` asks a dispatcher under these symbols for each request; undici 8 has the second.
function catchFetch(symbol) {
  const plain = globalThis[symbol]
  if (plain === undefined) return
  const ours = new plain.constructor({
    connect: (options, callback) => {
      connect(options.hostname, callback)
    },
  })
  const dispatch = (options, handler) => {
    const { hostname, port, protocol } = new URL(options.origin)
    const chosen = protocol === 'https:' && isOurs(hostname, port) ? ours : plain
    return chosen.dispatch(options, handler)
  }
  globalThis[symbol] = Object.create(plain, { dispatch: { value: dispatch } })
}

// What uses `https` itself, as older HTTP libraries do.
class DropInAgent extends https.Agent {
  createConnection(options, callback) {
    const host = options.servername || options.host
    if (!isOurs(host, options.port)) return super.createConnection(options, callback)
    connect(host, callback)
    return undefined
  }
}

if (isWanted) {
  // Node makes its dispatcher when `fetch` is first used; this uses it without a network.
  await fetch('data:,')
  catchFetch(Symbol.for('undici.globalDispatcher.1'))
  catchFetch(Symbol.for('undici.globalDispatcher.2'))
  https.globalAgent = new DropInAgent({ keepAlive: true })
}
