// tus-js-client, unchanged, against Pli: uploads a file, aborts in the middle of a request, resumes with a
// new Upload object as after a restart of the browser, and compares the SHA-256 that Pli tells.
//
//   PLI_SERVER=https://127.0.0.1:PORT PLI_TOKEN=pli_… NODE_EXTRA_CA_CERTS=root.pem \
//     node tus-js.mjs DEPOSIT FILE [SCENARIO…]
//
// Scenarios (all by default): plain, checksum, parallel, creation, deferred, terminate. FILE should have at
// least 24 MiB, so that an abort is in the middle. Exits with 1 on any difference.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import * as tus from 'tus-js-client'
import { server, token, verifyDocument } from './pli.mjs'

const [deposit, file, ...chosen] = process.argv.slice(2)
const size = fs.statSync(file).size
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'pli-tus-js-'))

// tus-js-client has no checksum of its own: this stack adds one to every request that carries bytes.
class ChecksumStack {
  #inner = new tus.DefaultHttpStack({})
  createRequest(method, url) {
    const request = this.#inner.createRequest(method, url)
    const send = request.send.bind(request)
    request.send = async (body) => {
      if (method !== 'PATCH' || body == null) return send(body)
      const pieces = []
      for await (const piece of body instanceof Uint8Array ? [body] : body) pieces.push(piece)
      const bytes = Buffer.concat(pieces)
      request.setHeader('Upload-Checksum', `sha256 ${createHash('sha256').update(bytes).digest('base64')}`)
      return send(bytes)
    }
    return request
  }
  getName = () => 'ChecksumStack'
}

const scenarios = {
  plain: { options: {}, cut: 0.5 },
  checksum: { options: { chunkSize: 5 * 1024 * 1024, httpStack: new ChecksumStack() }, cut: 0.6 },
  parallel: { options: { parallelUploads: 3 }, cut: 0.5 },
  creation: { options: { uploadDataDuringCreation: true, chunkSize: 7 * 1024 * 1024 }, cut: 0.7 },
  // Bytes of a length that nobody knows beforehand: a plain stream, which cannot be resumed from the start.
  deferred: {
    options: { uploadLengthDeferred: true, chunkSize: 6 * 1024 * 1024 },
    cut: null,
    source: () => fs.createReadStream(file).pipe(new PassThrough()),
  },
  terminate: { options: {}, cut: 0.3 },
}

// One run of one Upload object. Ends when the upload does, or is aborted once `cut` of the bytes were sent.
function run(name, urlStorage, { cut, resume }) {
  const seen = { document: null, resumedAt: 0, statuses: [] }
  const source = scenarios[name].source ?? (() => fs.createReadStream(file))
  return new Promise((resolve, reject) => {
    const upload = new tus.Upload(source(), {
      endpoint: new URL('/api/v1/uploads', server).href,
      headers: { Authorization: `Bearer ${token}` },
      metadata: { filename: `${name} – pièce n° 1.bin`, filetype: 'application/octet-stream', deposit },
      urlStorage,
      removeFingerprintOnSuccess: true,
      // The retries are the library's own. One is needed when the server has not yet stored the end of what
      // the aborted request brought: HEAD tells the offset before it, and PATCH is answered 409.
      onBeforeRequest(request) {
        if (request.getMethod() === 'PATCH' && seen.progressed !== true) {
          seen.resumedAt = Number(request.getHeader('Upload-Offset'))
        }
      },
      onChunkComplete() {
        seen.progressed = true
      },
      onAfterResponse(request, response) {
        seen.statuses.push(`${request.getMethod()} ${response.getStatus()}`)
        seen.document = response.getHeader('Pli-Document') ?? seen.document
      },
      onProgress(sent) {
        if (cut !== null && sent >= size * cut && !seen.aborted) {
          seen.aborted = true
          upload.abort().then(() => resolve({ ...seen, upload }), reject)
        }
      },
      onSuccess: () => resolve({ ...seen, upload }),
      onError: reject,
      ...scenarios[name].options,
    })
    if (!resume) return upload.start()
    upload.findPreviousUploads().then((previous) => {
      assert.equal(previous.length, 1, 'the interrupted upload is found again')
      upload.resumeFromPreviousUpload(previous[0])
      upload.start()
    }, reject)
  })
}

async function prove(name) {
  const { cut } = scenarios[name]
  const urlStorage = new tus.FileUrlStorage(path.join(scratch, `${name}.json`))
  const first = await run(name, urlStorage, { cut, resume: false })
  let document = first.document
  if (name === 'terminate') {
    await tus.Upload.terminate(first.upload.url, { headers: { Authorization: `Bearer ${token}` }, retryDelays: null })
    console.log(`${name}: aborted and terminated`)
    return
  }
  if (cut !== null) {
    assert.ok(first.aborted, 'the upload ended before it could be aborted: take a larger file')
    const second = await run(name, urlStorage, { cut: null, resume: true })
    assert.ok(second.statuses.some((status) => status.startsWith('HEAD 200')), second.statuses.join(', '))
    // In one upload the HEAD tells what is durable; three parts tell theirs one by one.
    if (name !== 'parallel') assert.ok(second.resumedAt < size, `resumed at ${second.resumedAt}`)
    document = second.document ?? document
    console.log(`${name}: aborted, resumed at ${second.resumedAt} of ${size}, ${second.statuses.join(', ')}`)
  }
  const told = await verifyDocument(document, file, `${name} – pièce n° 1.bin`)
  console.log(`${name}: ${told.sha256}`)
}

try {
  for (const name of chosen.length ? chosen : Object.keys(scenarios)) await prove(name)
} finally {
  fs.rmSync(scratch, { recursive: true, force: true })
}
