// A bittorrent-dht node on loopback: `node server.js HOST:PORT...` (its bootstrap nodes) says
// `ready PORT` and serves until its standard input is closed.
//
// The package leaves the verification of signatures to its user: here by OpenSSL, the fastest at hand.

import { createPublicKey, verify } from 'node:crypto'
import DHT from 'bittorrent-dht'

const SPKI = Buffer.from('302a300506032b6570032100', 'hex') // RFC 8410: what precedes an Ed25519 key

const dht = new DHT({
  bootstrap: process.argv.slice(2),
  verify: (signature, value, publicKey) => verify(
    null, value,
    createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' }),
    signature
  )
})
dht.on('error', (error) => { console.error(error); process.exit(1) })
dht.on('warning', () => {})
dht.listen(0, '127.0.0.1', () => console.log(`ready ${dht.address().port}`))
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
