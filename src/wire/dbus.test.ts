/** Against what libdbus 1.14 sends: strace of `dbus-send --print-reply … AddMatch`, and `dbus-monitor --binary` while firewalld 1.3 reloaded. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeMessage, encodeCall, METHOD_RETURN, SIGNAL } from './dbus.ts'

const HELLO = [
  '6c01000100000000010000006e00000001016f00150000002f6f72672f667265656465736b746f702f4442757300000006017300140000006f72672e66726565',
  '6465736b746f702e444275730000000002017300140000006f72672e667265656465736b746f702e4442757300000000030173000500000048656c6c6f000000',
].join('')
const ADD_MATCH = [
  '6c01000112000000020000007f00000001016f00150000002f6f72672f667265656465736b746f702f4442757300000002017300140000006f72672e66726565',
  '6465736b746f702e444275730000000003017300080000004164644d61746368000000000000000006017300140000006f72672e667265656465736b746f702e',
  '444275730000000008016700017300000d000000747970653d277369676e616c2700',
].join('')
const RELOADED = [
  '6c04010100000000010700007500000001016f001d0000002f6f72672f6665646f726170726f6a6563742f4669726577616c6c4431000000020173001c000000',
  '6f72672e6665646f726170726f6a6563742e4669726577616c6c443100000000030173000800000052656c6f6164656400000000000000000701730004000000',
  '3a312e3000000000',
].join('')

const BUS = { path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus', destination: 'org.freedesktop.DBus' }

test('encodeCall() writes the bytes that libdbus writes, but for the order of the fields, which is free', () => {
  assert.equal(encodeCall({ ...BUS, member: 'Hello', serial: 1, arguments: [] }).toString('hex'), HELLO)
  const ours = encodeCall({ ...BUS, member: 'AddMatch', serial: 2, arguments: ["type='signal'"] })
  const theirs = Buffer.from(ADD_MATCH, 'hex')
  assert.deepEqual(decodeMessage(ours), decodeMessage(theirs))
  assert.equal(ours.toString('hex', 0, 16), theirs.toString('hex', 0, 16))
  assert.equal(ours.toString('hex', 144), theirs.toString('hex', 144))
})

test("decodeMessage() reads firewalld's signal, and of a stream the first message", () => {
  const bytes = Buffer.from(RELOADED, 'hex')
  const signal = {
    type: SIGNAL,
    length: bytes.length,
    path: '/org/fedoraproject/FirewallD1',
    interface: 'org.fedoraproject.FirewallD1',
    member: 'Reloaded',
    sender: ':1.0',
  }
  assert.deepEqual(decodeMessage(bytes), signal)
  assert.deepEqual(decodeMessage(Buffer.concat([bytes, Buffer.from(HELLO, 'hex')])), signal)
})

test('decodeMessage() reads the other byte order', () => {
  const fields = Buffer.from('03017300000000026869000000000000', 'hex').subarray(0, 11)
  const head = Buffer.from([0x42, METHOD_RETURN, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, fields.length])
  const message = Buffer.concat([head, fields, Buffer.alloc(-(head.length + fields.length) & 7)])
  assert.deepEqual(decodeMessage(message), { type: METHOD_RETURN, length: message.length, member: 'hi' })
})

test('decodeMessage() waits for the rest of a message, at whatever byte it is cut', () => {
  for (const text of [ADD_MATCH, RELOADED]) {
    const bytes = Buffer.from(text, 'hex')
    for (let length = 0; length < bytes.length; length++) assert.equal(decodeMessage(bytes.subarray(0, length)), undefined)
  }
})

test('decodeMessage() reads back what encodeCall() wrote', () => {
  const word = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(word, word, fc.array(word, { maxLength: 4 }), (path, member, words) => {
      const bytes = encodeCall({ ...BUS, path, member, serial: 1, arguments: words })
      const { length, type, ...fields } = decodeMessage(bytes) ?? assert.fail()
      assert.equal(length, bytes.length)
      assert.equal(type, 1)
      assert.deepEqual(fields, { ...BUS, path, member, ...(words.length > 0 && { signature: 's'.repeat(words.length) }) })
    }),
  )
})

test('decodeMessage() refuses what is no message with a RangeError, whatever it is', () => {
  assert.throws(() => decodeMessage(Buffer.from('HTTP/1.1 400 Bad Request')), /does not begin as one/)
  const long = Buffer.from(HELLO, 'hex')
  long.writeUInt32LE(0x7fffffff, 4)
  assert.throws(() => decodeMessage(long), /too long/)
  fc.assert(
    fc.property(fc.nat(), fc.nat({ max: 255 }), (at, value) => {
      const bytes = Buffer.from(RELOADED, 'hex')
      bytes[at % bytes.length] = value
      try {
        decodeMessage(bytes)
      } catch (error) {
        assert.ok(error instanceof RangeError, String(error))
      }
    }),
  )
})
