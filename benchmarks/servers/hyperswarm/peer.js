// A peer of a topic by hyperswarm, unchanged: `node peer.js TOPIC HOST:PORT...` (the topic in hex, 32 bytes; its
// bootstrap nodes).  A line of standard output is an event, JSON: `topic.joined` with the first connection.  The
// end of the input is its end.
//
// hyperswarm itself looks up a topic anew after ten minutes; here it does every second until somebody is there, as an
// application would that waits for one.

import Hyperswarm from 'hyperswarm'

const REFRESH = 1000

const [topic, ...bootstrap] = process.argv.slice(2)
const swarm = new Hyperswarm({ bootstrap })
const discovery = swarm.join(Buffer.from(topic, 'hex'))

const again = setInterval(() => discovery.refresh().catch(() => {}), REFRESH)
swarm.once('connection', () => {
  clearInterval(again)
  console.log(JSON.stringify({ event: 'topic.joined', time: Date.now() / 1000 }))
})
swarm.on('connection', (connection) => connection.on('error', () => {}))
process.stdin.on('end', () => process.exit(0)).resume()
