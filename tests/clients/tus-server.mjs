// The peer of the transfer benchmark: @tus/server with @tus/file-store behind TLS, as their own
// documentation puts them together, with nothing added. It listens on loopback only.
//
//   TUS_DIR=… TLS_CERT=… TLS_KEY=… [TUS_PORT=0] node tus-server.mjs
//
// Prints one line, `listening PORT`, when it accepts connections.
import fs from 'node:fs'
import https from 'node:https'
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const directory = process.env.TUS_DIR
const tus = new Server({ path: '/files', datastore: new FileStore({ directory }) })
const server = https.createServer(
  { cert: fs.readFileSync(process.env.TLS_CERT), key: fs.readFileSync(process.env.TLS_KEY) },
  tus.handle.bind(tus),
)
// Node closes a request after five minutes by default; a large file on a slow disk takes longer.
server.requestTimeout = 0
server.listen(Number(process.env.TUS_PORT ?? 0), '127.0.0.1', () => {
  console.log(`listening ${server.address().port}`)
})
process.on('SIGTERM', () => process.exit(0))
