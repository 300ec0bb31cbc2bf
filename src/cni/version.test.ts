import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TsnetError } from '../error.ts'
import { isAtLeast, parseVersion, requireCommandAllowed, SUPPORTED_VERSIONS, versionDocument } from './version.ts'

test('parseVersion() takes every supported version, and absent or empty as 0.1.0', () => {
  for (const version of SUPPORTED_VERSIONS) assert.equal(parseVersion(version), version)
  assert.equal(parseVersion(undefined), '0.1.0')
  assert.equal(parseVersion(''), '0.1.0')
})

test('parseVersion() refuses any other text with code 1 and names what is supported', () => {
  for (const text of ['9.9.9', '1.0', '1', '1.1.0 ', 'v1.0.0', '1.2.0', 'constructor']) {
    assert.throws(
      () => parseVersion(text),
      (error) =>
        error instanceof TsnetError &&
        error.cniCode === 1 &&
        error.message === 'incompatible CNI versions' &&
        error.details === `config is "${text}", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]`,
    )
  }
})

test('requireCommandAllowed() refuses CHECK before 0.4.0, GC and STATUS before 1.1.0', () => {
  const first = { ADD: '0.1.0', DEL: '0.1.0', VERSION: '0.1.0', CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' } as const
  for (const [command, since] of Object.entries(first) as [keyof typeof first, (typeof SUPPORTED_VERSIONS)[number]][]) {
    for (const version of SUPPORTED_VERSIONS) {
      if (isAtLeast(version, since)) requireCommandAllowed(command, version)
      else {
        assert.throws(
          () => requireCommandAllowed(command, version),
          (error) => error instanceof TsnetError && error.cniCode === 1 && error.message === `config version does not allow ${command}`,
        )
      }
    }
  }
})

test('versionDocument() names the newest version and all', () => {
  assert.deepEqual(versionDocument(), { cniVersion: '1.1.0', supportedVersions: ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] })
})
