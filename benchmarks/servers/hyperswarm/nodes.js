// Nodes of hyperswarm's DHT, one on each of the addresses given: `node nodes.js HOST...` says `ready PORT` (that of all)
// when they know each other, and serves until its standard input is closed.  The first ones are the others' bootstrap nodes.

import HyperDHT from 'hyperdht'

const PORT = 49737 // its default
const BOOTSTRAP = 3 // as many as it has itself

const hosts = process.argv.slice(2)

// It need not find out its address first, as a bootstrapper need not.
const start = (host, bootstrap) => HyperDHT.bootstrapper(PORT, host, { host, bootstrap })

const nodes = []
for (const host of hosts.slice(0, BOOTSTRAP)) {
  const node = start(host, nodes.length ? [`${hosts[0]}:${PORT}`] : [])
  nodes.push(node)
  await node.fullyBootstrapped()
}
const bootstrap = nodes.map((_, number) => `${hosts[number]}:${PORT}`)
nodes.push(...hosts.slice(BOOTSTRAP).map((host) => start(host, bootstrap)))
await Promise.all(nodes.map((node) => node.fullyBootstrapped()))
// Those that began at the same time did not find each other.
await Promise.all(nodes.map((node) => node.findNode(node.id).finished()))
console.log(`ready ${PORT}`)
process.stdin.on('end', () => process.exit(0)).resume()
