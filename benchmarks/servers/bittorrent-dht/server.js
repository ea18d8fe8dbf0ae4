// A bittorrent-dht node on loopback: `node server.js HOST:PORT...` (its bootstrap nodes) says
// `ready PORT` and serves until its standard input is closed.  With `--bind=ADDRESS` it is not on loopback.
//
// A line there is a number and a command, its words in hex (`-`: empty): `put SEED SALT SEQ VALUE`,
// `get KEY SALT`, `put_immutable VALUE`, `get_immutable TARGET`.  The answer is a line: the number, and what was found,
// the target of what was put, `-` for nothing, or `error WORDS`.
//
// The package leaves the verification of signatures to its user: here by OpenSSL, the fastest at hand.

import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { createInterface } from 'node:readline'
import DHT from 'bittorrent-dht'

const SPKI = Buffer.from('302a300506032b6570032100', 'hex') // RFC 8410: what precedes an Ed25519 key
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex') // and its seed

const given = process.argv.slice(2)
const bind = given.find((word) => word.startsWith('--bind='))

const dht = new DHT({
  bootstrap: given.filter((word) => word !== bind),
  verify: (signature, value, publicKey) => verify(
    null, value,
    createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' }),
    signature
  )
})

const bytes = (word) => Buffer.from(word === '-' ? '' : word, 'hex')
const hex = (data) => data && data.length ? Buffer.from(data).toString('hex') : '-'
const found = (say) => (error, item) => say(error, item ? hex(item.v) : '-')
const stored = (say) => (error, target) => say(error, target && hex(target))

const commands = {
  put: (say, seed, salt, seq, value) => {
    const key = createPrivateKey({ key: Buffer.concat([PKCS8, bytes(seed)]), format: 'der', type: 'pkcs8' })
    const k = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI.length)
    const item = { k, seq: Number(seq), v: bytes(value), sign: (data) => sign(null, data, key) }
    if (salt !== '-') item.salt = bytes(salt)
    dht.put(item, stored(say))
  },
  get: (say, key, salt) => {
    const target = createHash('sha1').update(bytes(key)).update(bytes(salt)).digest()
    dht.get(target, { cache: false, ...(salt === '-' ? {} : { salt: bytes(salt) }) }, found(say))
  },
  put_immutable: (say, value) => dht.put({ v: bytes(value) }, stored(say)),
  get_immutable: (say, target) => dht.get(bytes(target), { cache: false }, found(say))
}

dht.on('error', (error) => { console.error(error); process.exit(1) })
dht.on('warning', () => {})
dht.listen(0, bind ? bind.slice('--bind='.length) : '127.0.0.1', () => console.log(`ready ${dht.address().port}`))
const input = createInterface({ input: process.stdin })
input.on('line', (line) => {
  const [number, name, ...words] = line.split(' ')
  const say = (error, answer) => console.log(`${number} ${error ? `error ${error.message}` : answer}`)
  try {
    commands[name](say, ...words)
  } catch (error) {
    say(error)
  }
})
input.on('close', () => process.exit(0))
