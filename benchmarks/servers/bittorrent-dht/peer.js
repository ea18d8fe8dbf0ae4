// A peer of an info hash by bittorrent-dht, unchanged: `node peer.js INFOHASH HOST` (hex; the address of its own).
// It announces a port and looks others up, at its own default bootstrap nodes.  A line of standard output is an
// event, JSON: `topic.joined` when it knows the address of somebody else.  The end of the input is its end.
//
// The package leaves it to its user when to look up again: here a second after the last lookup has ended.

import DHT from 'bittorrent-dht'

const REPEAT = 1000
const PORT = 4000 // nobody listens there

const [infoHash, own] = process.argv.slice(2)
const dht = new DHT()
let found = false

dht.on('error', () => {})
dht.on('warning', () => {})
dht.on('peer', ({ host }) => {
  if (host === own || found) return
  found = true
  console.log(JSON.stringify({ event: 'topic.joined', time: Date.now() / 1000 }))
})

// An announcement begins with a lookup, which tells of peers as any other.
const again = (work) => work(() => { if (!found) setTimeout(again, REPEAT, (done) => dht.lookup(infoHash, done)) })
dht.listen(0, own, () => again((done) => dht.announce(infoHash, PORT, done)))
process.stdin.on('end', () => process.exit(0)).resume()
