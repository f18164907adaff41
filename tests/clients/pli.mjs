// What the JavaScript clients here share: where Pli is, and what it says of a document.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import https from 'node:https'
import { setTimeout as wait } from 'node:timers/promises'

export const server = new URL(required('PLI_SERVER'))
export const token = required('PLI_TOKEN')

export function required(name) {
  const value = process.env[name]
  if (!value) throw new Error(`the variable ${name} is missing`)
  return value
}

export async function sha256(path) {
  const hash = createHash('sha256')
  for await (const piece of fs.createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece)
  return hash.digest('hex')
}

// NODE_EXTRA_CA_CERTS makes node's own https trust the authority of the test.
export function get(path) {
  return new Promise((resolve, reject) => {
    const request = https.get(new URL(path, server), { headers: { authorization: `Bearer ${token}` } }, (answer) => {
      const pieces = []
      answer.on('data', (piece) => pieces.push(piece))
      answer.on('end', () => resolve({ status: answer.statusCode, text: Buffer.concat(pieces).toString() }))
      answer.on('error', reject)
    })
    request.on('error', reject)
  })
}

// A document is finished by a job after its last byte: there is no event to wait for over the API.
export async function verifyDocument(id, path, name) {
  assert.ok(id, 'the answer to the creation names the document (Pli-Document)')
  const deadline = Date.now() + 120_000
  for (;;) {
    const { status, text } = await get(`/api/v1/documents/${id}`)
    assert.equal(status, 200, text)
    const document = JSON.parse(text)
    assert.notEqual(document.state, 'damaged')
    if (document.state === 'available') {
      assert.equal(document.size, fs.statSync(path).size)
      assert.equal(document.sha256, await sha256(path))
      assert.equal(document.name, name)
      return document
    }
    assert.ok(Date.now() < deadline, `still ${document.state} after two minutes`)
    await wait(50)
  }
}
