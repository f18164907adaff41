// OpenPGP.js, unchanged, opens what lies in Pli's store: no code of Pli takes part.
//
//   node open-with-openpgpjs.mjs --key SECRET.asc --passphrase FILE MESSAGE [--out FILE] [--signer CERT.asc]
//   node open-with-openpgpjs.mjs --key SECRET.asc --passphrase FILE --keys-from MANIFEST OBJECT [--out FILE]
//
// MESSAGE holds PKESK packets and one encrypted data packet (SEIPD version 2), as a manifest in the store
// does. A segment's object has no PKESK in front: with --keys-from they are taken from the head of the
// manifest of its document. Prints the length and the SHA-256 of the content, and with --signer whether the
// signature holds; exits with 1 when anything is not as it should be.

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { parseArgs } from 'node:util'
import * as openpgp from 'openpgp'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    key: { type: 'string' },
    passphrase: { type: 'string' },
    'keys-from': { type: 'string' },
    out: { type: 'string' },
    signer: { type: 'string' },
  },
})

// The leading public-key encrypted session key packets (tag 1) of a binary message (RFC 9580, 4.2.1).
function sessionKeyPackets(bytes) {
  let at = 0
  while (at < bytes.length && bytes[at] === 0xc1) {
    const first = bytes[at + 1]
    if (first < 192) at += 2 + first
    else if (first < 224) at += 3 + ((first - 192) << 8) + bytes[at + 2] + 192
    else if (first === 255) at += 6 + bytes.readUInt32BE(at + 2)
    else throw new Error('a session key packet has a partial length')
  }
  if (at === 0) throw new Error('no session key packet at the head')
  return bytes.subarray(0, at)
}

const passphrase = fs.readFileSync(values.passphrase, 'utf8').replace(/\r?\n$/, '')
const locked = await openpgp.readPrivateKey({ armoredKey: fs.readFileSync(values.key, 'utf8') })
const key = await openpgp.decryptKey({ privateKey: locked, passphrase })

let message = fs.readFileSync(positionals[0])
if (values['keys-from']) message = Buffer.concat([sessionKeyPackets(fs.readFileSync(values['keys-from'])), message])
const verificationKeys = values.signer
  ? await openpgp.readKey({ armoredKey: fs.readFileSync(values.signer, 'utf8') })
  : undefined

const opened = await openpgp.decrypt({
  message: await openpgp.readMessage({ binaryMessage: new Uint8Array(message) }),
  decryptionKeys: key,
  verificationKeys,
  expectSigned: Boolean(values.signer),
  format: 'binary',
})
for (const { verified } of values.signer ? opened.signatures : []) await verified
if (values.out) fs.writeFileSync(values.out, opened.data)
console.log(JSON.stringify({
  bytes: opened.data.length,
  sha256: createHash('sha256').update(opened.data).digest('hex'),
  signed: Boolean(values.signer),
}))
