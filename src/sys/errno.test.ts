import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { test } from 'node:test'
import * as errno from './errno.ts'

test('errnoName() and the constants say what node:os says', () => {
  const synonyms = new Set(['EWOULDBLOCK', 'ENOTSUP'])
  for (const [name, code] of Object.entries(constants.errno)) if (!synonyms.has(name)) assert.equal(errno.errnoName(code), name)
  for (const [name, value] of Object.entries(errno)) {
    if (typeof value === 'number') assert.equal(value, constants.errno[name as keyof typeof constants.errno], name)
  }
})

test('errnoName() knows what the kernel alone says, and numbers the rest', () => {
  assert.deepEqual([52, 54, 85, 524, 4000].map(errno.errnoName), ['EBADE', 'EXFULL', 'ERESTART', 'ENOTSUPP', 'errno 4000'])
})
