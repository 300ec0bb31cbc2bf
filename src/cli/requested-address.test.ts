import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRequestedAddresses } from './requested-address.ts'

test('parseRequestedAddresses() reads addresses and addresses with a length', async () => {
  assert.deepEqual(await parseRequestedAddresses([]), [])
  assert.deepEqual(await parseRequestedAddresses(['10.210.0.5', '10.210.0.5/22', 'FD00:0::5', 'fd00::5/64', '10.0.0.4/31']), [
    '10.210.0.5',
    '10.210.0.5/22',
    'fd00::5',
    'fd00::5/64',
    '10.0.0.4/31',
  ])
})

for (const text of ['', 'web', '10.0.0', '010.0.0.1', '10.0.0.1/33', '10.0.0.1/', 'fe80::1%eth0', '10.0.0.1-5', 'fd00::5/129', '/24']) {
  test(`parseRequestedAddresses() refuses ${JSON.stringify(text)}`, () => assert.rejects(parseRequestedAddresses([text]), /is no IP address/))
}

test('parseRequestedAddresses() refuses a subnet and names an address in it', async () => {
  await assert.rejects(
    parseRequestedAddresses(['10.210.0.0/22']),
    (error: Error & { hint?: string }) => /a subnet/.test(error.message) && error.hint?.endsWith('10.210.0.2') === true,
  )
  await assert.rejects(parseRequestedAddresses(['fd00::/64']), (error: Error & { hint?: string }) => error.hint?.endsWith('fd00::2') === true)
})
